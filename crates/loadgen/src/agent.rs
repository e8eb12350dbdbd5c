//! One simulated agent.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use muster_agent::transport::{Dialer, ServerUrl, Socket, websocket};
use muster_agent::{Backoff, Enroller, Key};
use muster_codec_native::{
    AgentFrame, Batch, Credential, Hello, ServerFrame, StreamSeq, Task, hello_message,
};
use muster_types::{AgentNo, Clock, Fact, HuntNo, Outcome, TaskId};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use crate::answer::{Answerer, end};
use crate::control::Signals;
use crate::fleet::Fleet;
use crate::lies;
use crate::report::Stats;
use crate::unacked::{Sent, Unacked};

type Link = WebSocketStream<Socket>;

/// Agents that come from one loopback address: each has its own ports.
const PER_ADDRESS: u32 = 5_000;

/// Tasks remembered so that one that is handed out again is not run again.
const TAKEN_MAX: usize = 4096;

/// What all agents share.
pub(crate) struct Shared {
    pub(crate) fleet: Fleet,
    pub(crate) servers: Vec<ServerUrl>,
    pub(crate) secret: String,
    pub(crate) dialer: Dialer,
    /// Whether servers are on loopback, so that source addresses may be chosen.
    pub(crate) loopback: bool,
    pub(crate) answerer: Answerer,
    pub(crate) stats: Stats,
    /// Whether tasks are taken and not answered.
    pub(crate) mute: AtomicBool,
    /// Whether the time of each task is noted.
    pub(crate) task_times: bool,
    pub(crate) signals: Signals,
    /// Handshakes at a time.
    pub(crate) handshakes: Semaphore,
    pub(crate) backoff: Backoff,
    pub(crate) clock: Arc<dyn Clock>,
}

/// One agent's memory.
pub(crate) struct Agent {
    shared: Arc<Shared>,
    number: u32,
    key: Key,
    agent_no: Option<AgentNo>,
    process_nonce: [u8; 16],
    stream: u64,
    next_seq: u64,
    /// Sent or to be sent, not acknowledged.
    waiting: Unacked,
    /// Raised at each failure: the next server is tried then.
    turn: usize,
    taken: HashSet<TaskId>,
}

impl Agent {
    pub(crate) fn new(shared: Arc<Shared>, number: u32) -> anyhow::Result<Self> {
        let key = Key::from_seed(&shared.fleet.endpoint(number).key_seed())?;
        Ok(Self {
            shared,
            number,
            key,
            agent_no: None,
            process_nonce: rand::random(),
            stream: rand::random(),
            next_seq: 1,
            waiting: Unacked::default(),
            turn: 0,
            taken: HashSet::new(),
        })
    }

    /// Enrols, then holds a link whenever it should, until `shutdown`.
    pub(crate) async fn live(mut self, start: Instant, shutdown: CancellationToken) {
        let life = async {
            tokio::time::sleep_until(start).await;
            let mut failures = 0;
            loop {
                match Box::pin(self.once()).await {
                    Ok(()) => failures = 0,
                    Err(error) => {
                        failures += 1;
                        self.turn += 1;
                        self.shared.stats.error(&error);
                        tokio::time::sleep(self.shared.backoff.wait(failures)).await;
                    }
                }
            }
        };
        tokio::select! {
            () = life => {}
            () = shutdown.cancelled() => {}
        }
    }

    /// One enrolment, or one link from its beginning to its end.
    async fn once(&mut self) -> anyhow::Result<()> {
        let shared = Arc::clone(&self.shared);
        let Some(agent_no) = self.agent_no else {
            let _turn = shared.handshakes.acquire().await?;
            self.agent_no = Some(self.enrol(Credential::Secret(shared.secret.clone())).await?);
            shared.stats.enrolled.fetch_add(1, Relaxed);
            return Ok(());
        };
        let mut online = shared.signals.online.subscribe();
        let away = shared.fleet.is_offline(self.number);
        if away {
            online.wait_for(|online| *online).await?;
        }
        let mut storms = shared.signals.storms.subscribe();
        let turn = shared.handshakes.acquire().await?;
        let connection = self.dialer().connect(self.server()).await?;
        let mut link = websocket(connection).await?;
        if !self.greet(&mut link, agent_no).await? {
            return Ok(());
        }
        drop(turn);
        shared.stats.connects.fetch_add(1, Relaxed);
        shared.stats.connected.fetch_add(1, Relaxed);
        let ended = tokio::select! {
            ended = self.hold(&mut link) => ended,
            _ = storms.changed() => Ok(()),
            _ = online.wait_for(|online| away && !*online) => Ok(()),
        };
        shared.stats.connected.fetch_sub(1, Relaxed);
        ended
    }

    fn server(&self) -> &ServerUrl {
        let servers = &self.shared.servers;
        &servers[(self.number as usize + self.turn) % servers.len()]
    }

    fn dialer(&self) -> Dialer {
        let mut dialer = self.shared.dialer.clone();
        if self.shared.loopback {
            let [_, _, high, low] = (2 + self.number / PER_ADDRESS).to_be_bytes();
            dialer.bind = Some(IpAddr::V4(Ipv4Addr::new(127, 0, high, low)));
        }
        dialer
    }

    async fn enrol(&self, credential: Credential) -> anyhow::Result<AgentNo> {
        let endpoint = self.shared.fleet.endpoint(self.number);
        let enroller = Enroller { machine_id: endpoint.machine_id(), host: endpoint.host_facts() };
        let now = self.shared.clock.now();
        let dialer = self.dialer();
        let asked = enroller.enrol(&dialer, self.server(), &self.key, credential, now);
        Ok(Box::pin(asked).await.context("enrol")?.agent_no)
    }

    /// Proves who this is; whether the link is up.
    async fn greet(&mut self, link: &mut Link, agent_no: AgentNo) -> anyhow::Result<bool> {
        let nonce = match hear(link).await? {
            ServerFrame::Challenge(challenge) => challenge.nonce,
            ServerFrame::Bye(bye) => return self.sent_away(&bye.reason, bye.retry_after_ms).await,
            _ => bail!("no challenge"),
        };
        let endpoint = self.shared.fleet.endpoint(self.number);
        let message = hello_message(&nonce, agent_no.0, &self.process_nonce);
        let hello = Hello {
            agent_no,
            proof: self.key.sign(&message),
            process_nonce: self.process_nonce,
            boot_id: format!("boot-{}", self.number),
            machine_id: endpoint.machine_id(),
            host: endpoint.host_facts(),
            first_unacked: self.waiting.first().map(|seq| StreamSeq { stream: self.stream, seq }),
        };
        link.send(Message::Binary(AgentFrame::Hello(Box::new(hello)).encode()?)).await?;
        match hear(link).await? {
            ServerFrame::Welcome(_) => Ok(true),
            ServerFrame::Bye(bye) => self.sent_away(&bye.reason, bye.retry_after_ms).await,
            ServerFrame::Rekey(rekey) => {
                self.shared.stats.rekeys.fetch_add(1, Relaxed);
                self.key = Key::generate()?;
                self.agent_no = Some(self.enrol(Credential::Ticket(rekey.ticket)).await?);
                Ok(false)
            }
            _ => bail!("no welcome"),
        }
    }

    async fn sent_away(&self, reason: &str, retry_after_ms: u64) -> anyhow::Result<bool> {
        self.shared.stats.error(&anyhow::anyhow!("sent away: {reason}"));
        tokio::time::sleep(Backoff::asked(Duration::from_millis(retry_after_ms))).await;
        Ok(false)
    }

    async fn hold(&mut self, link: &mut Link) -> anyhow::Result<()> {
        // What an earlier link did not get acknowledged goes first.
        for frame in self.waiting.again() {
            self.shared.stats.batches.fetch_add(1, Relaxed);
            link.send(Message::Binary(frame)).await?;
        }
        loop {
            match hear(link).await? {
                ServerFrame::Ack(ack) if ack.stream == self.stream => {
                    self.waiting.acked(ack.seq, &self.shared.stats);
                }
                ServerFrame::Task(task) => self.take(link, task).await?,
                ServerFrame::Nack(nack) => {
                    self.sent_away("not taken", nack.retry_after_ms).await?;
                    return Ok(());
                }
                ServerFrame::Bye(bye) => {
                    self.sent_away(&bye.reason, bye.retry_after_ms).await?;
                    return Ok(());
                }
                // Answers are too quick to be cancelled.
                _ => {}
            }
        }
    }

    async fn take(&mut self, link: &mut Link, task: Task) -> anyhow::Result<()> {
        let stats = &self.shared.stats;
        if self.shared.task_times {
            stats.task_time(task.task.hunt, self.shared.clock.now());
        }
        self.waiting.check()?;
        if self.taken.len() >= TAKEN_MAX {
            self.taken.clear();
        }
        if !self.taken.insert(task.task) {
            stats.repeated_tasks.fetch_add(1, Relaxed);
            return Ok(());
        }
        stats.tasks.fetch_add(1, Relaxed);
        let fleet = &self.shared.fleet;
        if fleet.is_silent(self.number) || self.shared.mute.load(Relaxed) {
            return Ok(());
        }
        let (hunt, mut rows) = (task.task.hunt, 0);
        let lies = fleet.is_lying(self.number).then(|| (lies::before(&task), lies::after(&task)));
        let (before, after) = lies.unwrap_or_default();
        let items = if fleet.is_failing(self.number) {
            vec![end(&task, Some(Outcome::Failed), "simulated failure".to_owned())]
        } else {
            let now = self.shared.clock.now();
            let endpoint = fleet.endpoint(self.number);
            let answer = self.shared.answerer.answer(endpoint, task, now).await?;
            rows = answer.row_count;
            stats.rows.fetch_add(rows, Relaxed);
            answer.items
        };
        for lie in before {
            self.tell(link, lie, None).await?;
        }
        self.tell(link, items, Some((hunt, rows))).await?;
        for lie in after {
            self.tell(link, lie, None).await?;
        }
        Ok(())
    }

    /// Sends a batch and keeps it until it is acknowledged; one that answers a hunt is counted as such.
    async fn tell(
        &mut self,
        link: &mut Link,
        items: Vec<Fact>,
        answers: Option<(HuntNo, u64)>,
    ) -> anyhow::Result<()> {
        let batch = Batch { stream: self.stream, seq: self.next_seq, items };
        let frame = AgentFrame::Batch(batch).encode()?;
        self.waiting.push(Sent::new(self.next_seq, frame.clone(), answers));
        self.next_seq += 1;
        self.shared.stats.batches.fetch_add(1, Relaxed);
        Ok(link.send(Message::Binary(frame)).await?)
    }
}

/// The next frame; pings are answered on the way.
async fn hear(link: &mut Link) -> anyhow::Result<ServerFrame> {
    loop {
        match link.next().await {
            Some(Ok(Message::Binary(bytes))) => {
                if let Some(frame) = ServerFrame::decode(bytes)? {
                    return Ok(frame);
                }
            }
            Some(Ok(Message::Close(_))) | None => bail!("closed by the server"),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error).context("link"),
        }
    }
}
