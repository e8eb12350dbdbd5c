//! Work on its way down: from a committed wave to the agent, and what is recorded of it.

mod rig;

use std::collections::BTreeMap;
use std::time::Duration;

use muster_artifact::{Bound, RowClass, Source};
use muster_catalog::Priority;
use muster_codec_native::{AgentFrame, Batch, Cancel, ServerFrame, Task};
use muster_hunts::{Definition, HuntKind, Limits, NewHunt};
use muster_types::{
    AgentKind, AgentNo, AgentSet, Body, Fact, HuntNo, OrgId, Outcome, Record, ScopeSpec, Spent,
    TaskEnd, TaskFact, TaskId,
};
use rig::client::{Agent, Link};
use rig::{Rig, until};

impl Rig {
    /// A live query with its first wave.
    async fn ask(&self, definition: Definition, agents: &[AgentNo]) -> HuntNo {
        let new = NewHunt {
            org: OrgId::DEFAULT,
            kind: HuntKind::Live,
            title: "a question".into(),
            artifact: String::new(),
            definition,
            scope: ScopeSpec::all(),
            caller_scope: vec![ScopeSpec::all()],
            limits: Limits::default(),
            requested_by: "ana".into(),
            reason: String::new(),
            incident: None,
            expires_in: Duration::from_secs(600),
            needs_approval: false,
        };
        let first: AgentSet = agents.iter().copied().collect();
        let mut tx = self.store.catalog.begin(Priority::Api).await.unwrap();
        let hunt = muster_hunts::create(&mut tx, &new, &first).await.unwrap().no;
        tx.commit().await.unwrap();
        self.hunts.announce().await.unwrap();
        hunt
    }

    async fn facts(&self, agent: AgentNo, at_least: usize) -> Vec<TaskFact> {
        let records = self.records(agent.shard(), at_least).await;
        records.into_iter().filter_map(fact).collect()
    }
}

fn fact(record: Record) -> Option<TaskFact> {
    match record.body {
        Body::Fact(fact) => Some(fact),
        Body::Wire(_) => None,
    }
}

async fn task(link: &mut Link) -> Task {
    match link.next().await {
        Some(ServerFrame::Task(task)) => task,
        other => panic!("expected a task, got {other:?}"),
    }
}

async fn end(link: &mut Link, seq: u64, task: TaskId) {
    let end = TaskEnd { task, outcome: None, message: String::new(), spent: Spent::micros(1) };
    let batch = Batch { stream: 1, seq, items: vec![Fact::End(end)] };
    link.send(&AgentFrame::Batch(batch)).await;
    link.acked(seq).await;
}

#[tokio::test]
async fn a_wave_reaches_the_connected_agents_at_once_and_the_others_when_they_come() {
    let rig = Rig::start().await;
    let (here, away, apart) = (rig.enrol().await, rig.enrol().await, rig.enrol().await);
    let mut link = rig.connect(&here).await;
    let mut bystander = rig.connect(&apart).await;
    let hunt = rig.ask(Definition::ad_hoc("SELECT 1"), &[here.no, away.no]).await;
    let pushed = task(&mut link).await;
    assert_eq!(pushed.task, TaskId { hunt, attempt: 1 });
    assert_eq!(pushed.query, "SELECT 1");
    assert!(pushed.limits.timeout_ms > 0 && pushed.limits.memory_bytes > 0);
    assert_eq!(rig.facts(here.no, 1).await, [TaskFact::Delivered(pushed.task)]);

    let mut late = rig.connect(&away).await;
    assert_eq!(task(&mut late).await, pushed);
    assert_eq!(rig.facts(away.no, 1).await, [TaskFact::Delivered(pushed.task)]);

    rig.hunts.announce().await.unwrap();
    assert!(link.is_quiet().await, "nothing is handed over twice on one link");
    assert!(bystander.is_quiet().await, "who is not recruited gets nothing");
    assert_eq!(rig.metrics.tasks_delivered.get(), 2);
    rig.stop().await;
}

#[tokio::test]
async fn an_unfinished_task_is_handed_over_again_after_a_reconnect_and_a_finished_one_is_not() {
    let rig = Rig::start().await;
    let agent = rig.enrol().await;
    let mut link = rig.connect(&agent).await;
    rig.ask(Definition::ad_hoc("SELECT 1"), &[agent.no]).await;
    let first = task(&mut link).await;
    drop(link);
    until("the agent is gone", || rig.sessions.is_empty()).await;

    let mut link = rig.connect(&agent).await;
    assert_eq!(task(&mut link).await, first, "the same task under the same identifier");
    end(&mut link, 1, first.task).await;
    drop(link);
    until("the agent is gone", || rig.sessions.is_empty()).await;

    // The fold does not run here: the catalog still has the task as open.
    let mut link = rig.connect(&agent).await;
    assert!(link.is_quiet().await);
    rig.stop().await;
}

#[tokio::test]
async fn stopping_a_hunt_cancels_what_was_handed_over() {
    let rig = Rig::start().await;
    let (agent, done) = (rig.enrol().await, rig.enrol().await);
    let (mut link, mut finished) = (rig.connect(&agent).await, rig.connect(&done).await);
    let hunt = rig.ask(Definition::ad_hoc("SELECT 1"), &[agent.no, done.no]).await;
    let pushed = task(&mut link).await;
    let other = task(&mut finished).await;
    end(&mut finished, 1, other.task).await;

    let mut tx = rig.store.catalog.begin(Priority::Api).await.unwrap();
    muster_hunts::stop(&mut tx, OrgId::DEFAULT, hunt).await.unwrap();
    tx.commit().await.unwrap();
    rig.hunts.announce().await.unwrap();
    assert_eq!(link.next().await, Some(Cancel { task: pushed.task }.into()));
    assert!(finished.is_quiet().await);
    rig.stop().await;
}

#[tokio::test]
async fn what_an_agent_cannot_run_ends_at_once() {
    let rig = Rig::start().await;
    let agent = rig.enrol().await;
    let mut link = rig.connect(&agent).await;
    let source = Source { query: "SELECT 1".into() };
    let definition = Definition {
        sources: BTreeMap::from([(AgentKind::Osquery, source)]),
        parameters: Bound::new(),
        columns: Vec::new(),
        class: RowClass::Collected,
    };
    let hunt = rig.ask(definition, &[agent.no]).await;
    let facts = rig.facts(agent.no, 1).await;
    let [TaskFact::Ended { task, outcome, reason }] = &facts[..] else { panic!("{facts:?}") };
    assert_eq!((task.hunt, *outcome), (hunt, Outcome::Unsupported));
    assert!(reason.contains("native"), "{reason}");
    assert!(link.is_quiet().await);
    rig.stop().await;
}

#[tokio::test]
async fn a_wave_to_many_reaches_all_of_them() {
    let rig = Rig::start().await;
    let mut agents: Vec<Agent> = Vec::new();
    let mut links = Vec::new();
    for _ in 0..150 {
        let agent = rig.enrol().await;
        links.push(rig.connect(&agent).await);
        agents.push(agent);
    }
    let numbers: Vec<_> = agents.iter().map(|agent| agent.no).collect();
    rig.ask(Definition::ad_hoc("SELECT 1"), &numbers).await;
    for (link, seq) in links.iter_mut().zip(std::iter::repeat(1)) {
        let task = task(link).await;
        end(link, seq, task.task).await;
    }
    until("all are recorded", || rig.metrics.tasks_delivered.get() == 150).await;
    rig.stop().await;
}
