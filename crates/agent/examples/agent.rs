//! The agent alone, for the tests that kill it: `agent SERVER CA DATA QUERY-PROGRAM`.

use std::error::Error;
use std::time::Duration;

use muster_agent::{AgentOptions, Backoff, Secret};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [server, ca, data, program] = args.as_slice() else { return Err("four arguments".into()) };
    let ca = std::fs::read_to_string(ca)?;
    let mut options = AgentOptions::new(vec![server.parse()?], ca, data.into());
    options.secret = Some(Secret::Text("open sesame".to_owned()));
    options.query.program = program.into();
    options.query.args.clear();
    options.machine_id = Some("machine-1".to_owned());
    options.backoff =
        Backoff { first: Duration::from_millis(20), last: Duration::from_millis(200) };
    Ok(muster_agent::run(options, tokio_util::sync::CancellationToken::new()).await?)
}
