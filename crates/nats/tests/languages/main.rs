//! Services in any language: what a service can do, done by those of `examples/nats` in
//! Python, Go and JavaScript, and by one on the Rust kit. All of them pass the same suite.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod hello;
mod permissions;
mod suite;

use hello::Hello;
use suite::Net as _;
use tidegate_test_servers::{NatsServer, workspace};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_python() {
    let nats = NatsServer::start().await;
    suite::run(&nats, Hello::python(&nats)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_go() {
    let nats = NatsServer::start().await;
    suite::run(&nats, Hello::go(&nats)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_javascript() {
    let nats = NatsServer::start().await;
    suite::run(&nats, Hello::javascript(&nats)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_rust() {
    let nats = NatsServer::start().await;
    suite::run(&nats, Hello::rust(nats.options("hello")).await).await;
}

#[test]
fn the_examples_are_short() {
    for example in ["python/hello.py", "go/hello.go", "node/hello.mjs"] {
        let path = workspace().join("examples/nats").join(example);
        let lines = std::fs::read_to_string(path).unwrap().lines().count();
        assert!(lines <= 40, "{example} has {lines} lines");
    }
}
