//! The files as they are generated.

use super::site::{Balancer, Site, Tls};
use super::{apache, files, haproxy, nginx};
use crate::config::Config;

fn balancer() -> Balancer {
    Balancer {
        certificate: "/etc/muster/balancer.pem".into(),
        ca: "/etc/muster/ca.pem".into(),
        operators_port: 443,
        agents_port: 8453,
        instances: vec!["10.0.0.1".into(), "db2.example:8444,8454".into()],
        ..Balancer::default()
    }
}

fn site(yaml: &str, tls: Tls) -> Site {
    let config: Config = serde_norway::from_str(yaml).unwrap();
    let balancer = balancer();
    let found = super::servers::of_config(&config, &balancer.instances).unwrap();
    balancer.of(Some(&config), found, tls)
}

const PLAIN: &str = "{names: [muster.example], listeners: {plain: [operators, agents], \
                     trusted_proxies: [10.0.0.9]}, agents: {trusted_proxies: [10.0.0.9]}}";
const BY_HEADER: &str = "{names: [muster.example], listeners: {proxy_protocol: [10.0.0.9], proxy_protocol_on: [agents]}}";

#[test]
fn nginx_in_each_way() {
    insta::assert_snapshot!("nginx_mixed", nginx::text(&site(BY_HEADER, Tls::Mixed)));
    insta::assert_snapshot!("nginx_end", nginx::text(&site(PLAIN, Tls::End)));
    insta::assert_snapshot!("nginx_pass", nginx::text(&site("names: []", Tls::Pass)));
}

#[test]
fn haproxy_in_each_way() {
    insta::assert_snapshot!("haproxy_mixed", haproxy::text(&site(BY_HEADER, Tls::Mixed)));
    insta::assert_snapshot!("haproxy_end", haproxy::text(&site(PLAIN, Tls::End)));
    insta::assert_snapshot!("haproxy_pass", haproxy::text(&site("names: []", Tls::Pass)));
}

#[test]
fn apache_ends_tls() {
    insta::assert_snapshot!("apache_end", apache::text(&site("names: []", Tls::End)).unwrap());
    let refused = apache::text(&site("names: []", Tls::Mixed)).unwrap_err().to_string();
    assert!(refused.contains("cannot pass TLS"), "{refused}");
}

#[test]
fn nothing_is_left_open_in_a_template() {
    for tls in [Tls::Pass, Tls::End, Tls::Mixed] {
        for text in [nginx::text(&site(PLAIN, tls)), haproxy::text(&site(BY_HEADER, tls))] {
            assert!(!text.contains('@') && !text.contains("\n\n\n"), "{text}");
        }
    }
}

#[test]
fn instances_are_hosts_with_ports_or_without() {
    let config = Config::default();
    let of = |text: &str| super::servers::of_config(&config, &[text.to_owned()]);
    assert_eq!(of("a").unwrap(), [["a:8443"], ["a:8453"]]);
    assert_eq!(of("[::1]:1,2").unwrap(), [["[::1]:1"], ["[::1]:2"]]);
    for bad in ["a:1", "a b", "a:1,x", "$(x)", "a;b"] {
        assert!(of(bad).is_err(), "{bad}");
    }
    assert!(super::servers::of_config(&config, &[]).is_err());
}

#[test]
fn what_registered_is_reached_by_name_when_it_listens_everywhere() {
    let server = |address| super::servers::server(address, "db1");
    assert_eq!(server("[::]:8443").as_deref(), Some("db1:8443"));
    assert_eq!(server("0.0.0.0:8443").as_deref(), Some("db1:8443"));
    assert_eq!(server("https://m.example:443").as_deref(), Some("m.example:443"));
    assert_eq!(server("[2001:db8::1]:8443").as_deref(), Some("[2001:db8::1]:8443"));
    assert_eq!(server("nonsense"), None);
}

#[test]
fn the_unit_and_its_drop_in() {
    let text = files::systemd();
    assert!(text.contains("TimeoutStopSec=40") && text.contains("# Environment=MUSTER_ROLES="));
}

/// `deploy/compose/nginx.conf` is what `muster generate nginx` makes of `deploy/compose/muster.yaml`.
#[test]
fn the_compose_files_are_fresh() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/compose");
    let yaml = std::fs::read_to_string(format!("{dir}/muster.yaml")).unwrap();
    let config: Config = serde_norway::from_str(&yaml).unwrap();
    let balancer = Balancer { instances: vec!["muster-1".into(), "muster-2".into()], ..balancer() };
    let found = super::servers::of_config(&config, &balancer.instances).unwrap();
    let text = nginx::text(&balancer.of(Some(&config), found, Tls::Mixed));
    let path = format!("{dir}/nginx.conf");
    if std::env::var_os("MUSTER_REGENERATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == text, "{path} is stale; run `cargo xtask generate`");
}
