//! Enrolment, deletion, secrets and labels, on both databases.

mod common;

use common::{NOW, directory, native};
use muster_endpoints::{
    AgentState, Enrol, EnrolError, LabelError, NewSecret, add_members, create_label, create_secret,
    delete_endpoint, delete_label, enrol, enrol_clone, join_agent, list_secrets, remove_members,
    report_agent, revoke_secret, set_agent_blocked, split_agent,
};
use muster_testkit::TempCatalog;
use muster_types::{AgentKind, AgentNo, EndpointNo, OrgId, Timestamp};

const ORG: OrgId = OrgId::DEFAULT;

#[tokio::test(flavor = "multi_thread")]
async fn statements_prepare_and_seek() {
    for temp in TempCatalog::both().await.unwrap() {
        let statements = muster_endpoints::statements();
        let problems = muster_catalog::check::problems(&temp.catalog, &statements).await.unwrap();
        assert_eq!(problems, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn enrolling_again_gives_the_same_number_also_at_once() {
    for temp in TempCatalog::both().await.unwrap() {
        let one = native(1);
        let tries = (0..8).map(|_| enrol(&temp.catalog, &one, NOW));
        let done = futures_util::future::join_all(tries).await;
        let numbers: Vec<_> = done.into_iter().map(|d| d.unwrap()).collect();
        assert!(numbers.iter().all(|e| (e.agent, e.endpoint) == (AgentNo(1), EndpointNo(1))));
        assert_eq!(numbers.iter().filter(|e| e.is_new).count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_at_once_get_dense_numbers_and_meet_on_their_machine() {
    for temp in TempCatalog::both().await.unwrap() {
        let all = (1..=40_u32).map(|n| {
            let kind = if n % 2 == 0 { AgentKind::Native } else { AgentKind::Osquery };
            let machine = Some(format!("machine-{}", n.div_ceil(2)));
            let mut one = Enrol { kind, machine, ..native(n) };
            one.report.hostname = format!("host-{}", n.div_ceil(2));
            one
        });
        let all: Vec<_> = all.collect();
        let done = futures_util::future::join_all(all.iter().map(|e| enrol(&temp.catalog, e, NOW)));
        let mut numbers: Vec<_> = done.await.into_iter().map(|e| e.unwrap().agent.0).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=40).collect::<Vec<_>>());

        let snapshot = directory(&temp.catalog).await.snapshot();
        assert_eq!(snapshot.endpoints(ORG).count(), 20);
        for endpoint in snapshot.endpoints(ORG) {
            assert_eq!(endpoint.agents.len(), 2);
            let best = snapshot.best_agent(endpoint.no, |_| true).unwrap();
            assert_eq!(best.kind, AgentKind::Native);
            let only = snapshot.best_agent(endpoint.no, |a| a.kind == AgentKind::Osquery);
            assert_eq!(only.unwrap().kind, AgentKind::Osquery);
        }
    }
}

#[tokio::test]
async fn a_copied_machine_and_a_clone_get_their_own_endpoints() {
    let temp = TempCatalog::sqlite().await.unwrap();
    let first = enrol(&temp.catalog, &native(1), NOW).await.unwrap();
    // Installed anew: another key, the same machine and name.
    let again = Enrol { machine: native(1).machine, report: native(1).report, ..native(2) };
    assert_eq!(enrol(&temp.catalog, &again, NOW).await.unwrap().endpoint, first.endpoint);
    // A copy of the disk, under another name.
    let copy = Enrol { machine: native(1).machine, ..native(3) };
    assert_ne!(enrol(&temp.catalog, &copy, NOW).await.unwrap().endpoint, first.endpoint);
    // The same key on two live links.
    let clone = Enrol { machine: native(1).machine, report: native(1).report, ..native(4) };
    let clone = enrol_clone(&temp.catalog, first.agent, &clone, NOW).await.unwrap();
    assert_ne!(clone.endpoint, first.endpoint);
    let nobody = enrol_clone(&temp.catalog, AgentNo(99), &native(5), NOW).await;
    assert!(matches!(nobody, Err(EnrolError::NoOriginal(AgentNo(99)))));

    let directory = directory(&temp.catalog).await;
    let snapshot = directory.snapshot();
    assert_eq!(snapshot.agent(clone.agent).unwrap().clone_of, Some(first.agent));
    assert_eq!(snapshot.agents(ORG).count(), 4);

    // A wrong join is undone, and done again.
    let apart = split_agent(&temp.catalog, ORG, AgentNo(2), NOW).await.unwrap().unwrap();
    let snapshot = directory.refresh().await.unwrap();
    assert_eq!(snapshot.agents_of(first.endpoint), [first.agent]);
    assert_eq!(snapshot.agents_of(apart), [AgentNo(2)]);
    assert!(join_agent(&temp.catalog, ORG, AgentNo(2), first.endpoint).await.unwrap());
    let snapshot = directory.refresh().await.unwrap();
    assert_eq!(snapshot.agents_of(first.endpoint), [first.agent, AgentNo(2)]);
    assert!(snapshot.agents_of(apart).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_was_removed_or_blocked_does_not_come_back_as_a_clone() {
    for temp in TempCatalog::both().await.unwrap() {
        let catalog = &temp.catalog;
        let removed = enrol(catalog, &native(1), NOW).await.unwrap();
        let blocked = enrol(catalog, &native(2), NOW).await.unwrap();
        delete_endpoint(catalog, ORG, removed.endpoint, NOW).await.unwrap();
        set_agent_blocked(catalog, ORG, blocked.agent, true).await.unwrap();

        let back = enrol_clone(catalog, removed.agent, &native(3), NOW).await;
        assert!(matches!(back, Err(EnrolError::NoOriginal(no)) if no == removed.agent), "{back:?}");
        let back = enrol_clone(catalog, blocked.agent, &native(3), NOW).await;
        assert!(matches!(back, Err(EnrolError::Blocked(no)) if no == blocked.agent), "{back:?}");
        assert_eq!(directory(catalog).await.snapshot().agents(ORG).count(), 2);

        set_agent_blocked(catalog, ORG, blocked.agent, false).await.unwrap();
        assert!(enrol_clone(catalog, blocked.agent, &native(3), NOW).await.unwrap().is_new);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_gives_no_labels_to_an_endpoint_that_was_there_before() {
    for temp in TempCatalog::both().await.unwrap() {
        let catalog = &temp.catalog;
        let first = enrol(catalog, &native(1), NOW).await.unwrap();
        let new =
            NewSecret { name: "mine".into(), labels: vec!["mine".into()], ..NewSecret::default() };
        let (_, text) = create_secret(catalog, ORG, &new, "eve", NOW).await.unwrap();
        // Whoever says to be that machine joins it, and sees no more of it than before.
        let kind = AgentKind::Osquery;
        let joins = Enrol { kind, secret: Some(text.clone()), ..native(1) };
        let joined = enrol(catalog, &joins, NOW).await.unwrap();
        assert_eq!((joined.endpoint, joined.is_new), (first.endpoint, true));
        let fresh = enrol(catalog, &Enrol { secret: Some(text), ..native(2) }, NOW).await.unwrap();
        let snapshot = directory(catalog).await.snapshot();
        let members: Vec<_> = snapshot.label(ORG, "mine").unwrap().members.iter().collect();
        assert_eq!(members, [fresh.endpoint.0]);
        assert_eq!(list_secrets(catalog, ORG).await.unwrap()[0].uses, 2);
    }
}

#[tokio::test]
async fn a_secret_is_good_until_it_is_revoked_or_expires_and_gives_labels() {
    for temp in TempCatalog::both().await.unwrap() {
        let catalog = &temp.catalog;
        let new = NewSecret {
            name: "laptops".into(),
            labels: vec!["laptop".into(), "berlin".into()],
            expires_at: Some(NOW.plus(std::time::Duration::from_secs(60))),
            ..NewSecret::default()
        };
        let (no, text) = create_secret(catalog, ORG, &new, "ana", NOW).await.unwrap();
        let with = |n, secret: &str| Enrol { secret: Some(secret.to_owned()), ..native(n) };
        let refused = enrol(catalog, &with(1, "mes_wrong"), NOW).await;
        assert!(matches!(refused, Err(EnrolError::Secret)));
        let enrolled = enrol(catalog, &with(1, &text), NOW).await.unwrap();
        let late = Timestamp(NOW.0 + 60_000_000);
        assert!(matches!(enrol(catalog, &with(2, &text), late).await, Err(EnrolError::Secret)));

        let snapshot = directory(catalog).await.snapshot();
        let endpoint = snapshot.endpoint(enrolled.endpoint).unwrap();
        let labels: Vec<_> = snapshot.labels_of(endpoint).map(|l| l.name.to_string()).collect();
        assert_eq!(labels, ["laptop", "berlin"]);

        assert!(revoke_secret(catalog, ORG, no, NOW).await.unwrap());
        assert!(!revoke_secret(catalog, ORG, no, NOW).await.unwrap());
        assert!(matches!(enrol(catalog, &with(3, &text), NOW).await, Err(EnrolError::Secret)));
        let listed = list_secrets(catalog, ORG).await.unwrap();
        assert_eq!((listed.len(), listed[0].uses, &*listed[0].name), (1, 1, "laptops"));
        assert!(!format!("{listed:?}").contains(&text));
    }
}

#[tokio::test]
async fn a_deleted_endpoint_stays_gone_and_its_machine_comes_back_as_another() {
    let temp = TempCatalog::sqlite().await.unwrap();
    let catalog = &temp.catalog;
    let first = enrol(catalog, &native(1), NOW).await.unwrap();
    let directory = directory(catalog).await;
    assert!(delete_endpoint(catalog, ORG, first.endpoint, NOW).await.unwrap());
    assert!(!delete_endpoint(catalog, ORG, first.endpoint, NOW).await.unwrap());
    let snapshot = directory.refresh().await.unwrap();
    assert!(snapshot.endpoint(first.endpoint).is_none());
    assert!(snapshot.endpoint_or_tombstone(first.endpoint).is_some());
    assert_eq!(snapshot.agent(first.agent).unwrap().state, AgentState::Retired);
    assert_eq!(snapshot.agent(first.agent).unwrap().public_key, None);
    assert!(!set_agent_blocked(catalog, ORG, first.agent, false).await.unwrap());

    let second = enrol(catalog, &native(1), NOW).await.unwrap();
    assert_eq!((second.agent, second.endpoint), (AgentNo(2), EndpointNo(2)));
    assert!(set_agent_blocked(catalog, ORG, second.agent, true).await.unwrap());
    assert!(matches!(enrol(catalog, &native(1), NOW).await, Err(EnrolError::Blocked(AgentNo(2)))));
}

#[tokio::test]
async fn what_an_agent_reports_is_written_only_when_it_differs() {
    let temp = TempCatalog::sqlite().await.unwrap();
    let catalog = &temp.catalog;
    let enrolled = enrol(catalog, &native(1), NOW).await.unwrap();
    let directory = directory(catalog).await;
    let snapshot = directory.snapshot();
    let known = snapshot.agent(enrolled.agent).unwrap();
    assert!(!report_agent(catalog, known, &native(1).report).await.unwrap());
    let mut report = native(1).report;
    report.hostname = "ren\u{0}amed\n".into();
    report.version = "x".repeat(500);
    assert!(report_agent(catalog, known, &report).await.unwrap());
    let snapshot = directory.refresh().await.unwrap();
    let agent = snapshot.agent(enrolled.agent).unwrap();
    assert_eq!((&*agent.hostname, agent.facts.version.len()), ("ren amed", 64));
    assert_eq!(&*snapshot.endpoint(enrolled.endpoint).unwrap().name, "ren amed");
}

#[tokio::test]
async fn of_two_reports_by_who_knew_an_agent_before_neither_undoes_the_other() {
    for temp in TempCatalog::both().await.unwrap() {
        let catalog = &temp.catalog;
        let enrolled = enrol(catalog, &native(1), NOW).await.unwrap();
        let directory = directory(catalog).await;
        let before = directory.snapshot();
        let known = before.agent(enrolled.agent).unwrap();
        let mut renamed = native(1).report;
        renamed.hostname = "vitals-say".into();
        assert!(report_agent(catalog, known, &renamed).await.unwrap());
        let mut upgraded = native(1).report;
        upgraded.version = "9.9.9".into();
        assert!(report_agent(catalog, known, &upgraded).await.unwrap());
        let snapshot = directory.refresh().await.unwrap();
        let agent = snapshot.agent(enrolled.agent).unwrap();
        assert_eq!((&*agent.hostname, &*agent.facts.version), ("vitals-say", "9.9.9"));
        // The name of the endpoint follows what stands there, not what was known.
        renamed.hostname = "again".into();
        assert!(report_agent(catalog, known, &renamed).await.unwrap());
        let snapshot = directory.refresh().await.unwrap();
        assert_eq!(&*snapshot.endpoint(enrolled.endpoint).unwrap().name, "again");
    }
}

#[tokio::test]
async fn labels_are_made_given_taken_and_deleted() {
    for temp in TempCatalog::both().await.unwrap() {
        let catalog = &temp.catalog;
        for n in 1..=3 {
            enrol(catalog, &native(n), NOW).await.unwrap();
        }
        let directory = directory(catalog).await;
        create_label(catalog, ORG, "prod", "what earns money", "ana", NOW).await.unwrap();
        let twice = create_label(catalog, ORG, "prod", "", "ana", NOW).await;
        assert!(matches!(twice, Err(LabelError::Exists(_))));
        for bad in ["", "a~b", "-x", "a b", &"x".repeat(65)] {
            let refused = create_label(catalog, ORG, bad, "", "ana", NOW).await;
            assert!(matches!(refused, Err(LabelError::Name(_))), "{bad:?}");
        }
        let some = [EndpointNo(1), EndpointNo(3), EndpointNo(3), EndpointNo(77)];
        assert_eq!(add_members(catalog, ORG, "prod", &some, "ana", NOW).await.unwrap(), 2);
        assert_eq!(add_members(catalog, ORG, "prod", &some, "ana", NOW).await.unwrap(), 0);
        assert_eq!(remove_members(catalog, ORG, "prod", &some[..1], NOW).await.unwrap(), 1);
        let members = |s: &muster_endpoints::Snapshot| {
            s.label(ORG, "prod").map(|l| l.members.iter().collect::<Vec<_>>())
        };
        assert_eq!(members(&directory.refresh().await.unwrap()), Some(vec![3]));
        assert_eq!(add_members(catalog, ORG, "prod", &some[..1], "ana", NOW).await.unwrap(), 1);
        assert_eq!(members(&directory.refresh().await.unwrap()), Some(vec![1, 3]));
        delete_label(catalog, ORG, "prod", NOW).await.unwrap();
        assert_eq!(members(&directory.refresh().await.unwrap()), None);
        create_label(catalog, ORG, "prod", "", "ana", NOW).await.unwrap();
        assert_eq!(members(&directory.refresh().await.unwrap()), Some(vec![]));
        let gone = delete_label(catalog, ORG, "test", NOW).await;
        assert!(matches!(gone, Err(LabelError::Unknown(_))));
    }
}
