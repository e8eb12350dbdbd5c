//! An agent that has nothing to do costs the server's memory and nothing else.

use muster_hunts::HuntKind;
use muster_types::AgentNo;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::client::{read_reply, request};
use crate::rig::Rig;

const POLLS: u32 = 500;
const HUNTS: u32 = 50;

#[tokio::test]
async fn an_idle_poll_asks_neither_the_catalog_nor_the_bus() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    rig.enrol("host-2", "b").await;
    for no in 0..HUNTS {
        // For the other one, which never comes for it.
        rig.ask(HuntKind::Hunt, &format!("SELECT {no}"), &[AgentNo(2)]).await;
    }
    let body = json!({"node_key": key}).to_string();
    let path = "/api/v1/osquery/distributed/read";
    // Whatever the first poll after an enrolment does.
    assert_eq!(rig.queries(&key).await.len(), 0);

    let before = (rig.store.catalog.calls(), rig.bus.published());
    let tcp = tokio::net::TcpStream::connect(rig.far.address).await.unwrap();
    let mut io = rig.far.connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
    for _ in 0..POLLS {
        io.write_all(&request(path, body.as_bytes(), &[])).await.unwrap();
        assert_eq!(read_reply(&mut io).await.json(), json!({"queries": {}}));
    }
    // And as stock agents do: a connection for each.
    for _ in 0..POLLS / 20 {
        assert_eq!(rig.queries(&key).await.len(), 0);
    }
    assert_eq!((rig.store.catalog.calls(), rig.bus.published()), before);
    rig.stop().await;
}
