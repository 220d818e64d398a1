//! The permissions of `docs/nats.md` in force: gates and services work, and what they do not
//! need is refused (threats 40, and foreign publishers of all kinds).

use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event};
use nkeys::KeyPair;
use tidegate_nats::{Auth, ConnectError, Nats, NatsOptions, Secret};
use tidegate_test_servers::NatsServer;
use tokio::sync::mpsc;

use crate::hello::Hello;
use crate::suite::{self, Net};

/// The page's example, for the gates `gate-1` and `gate-2` and the service `hello`, which has an
/// NKey and no password.
fn documented(key: &str) -> String {
    let page = include_str!("../../../../docs/nats.md");
    let (_, section) = page.split_once("## Permissions").unwrap();
    let (_, block) = section.split_once("```text\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let (head, users) = block.split_once("  { user: gate-1").unwrap();
    let (gate, service) = users.split_once("  { user: chat").unwrap();
    let gate = format!("  {{ user: gate-1{gate}").replace("$GATE_1", "\"gate's secret\"");
    let service = format!("  {{ user: chat{service}")
        .replace("user: chat, password: $CHAT", &format!("nkey: {key}"))
        .replace("chat", "hello");
    let other = gate.replace("gate-1", "gate-2");
    format!("{head}{gate}{other}  {{ user: admin, password: all }}\n{service}")
}

struct Guarded {
    nats: NatsServer,
    service: KeyPair,
}

impl Guarded {
    async fn start() -> Self {
        let service = KeyPair::new_user();
        let config = documented(&service.public_key());
        let nats = NatsServer::options().config(&config).start().await;
        Self { nats, service }
    }

    /// A plain client of NATS with the rights of a gate or the service, and what NATS refuses it.
    async fn client(&self, name: &str) -> (Client, mpsc::UnboundedReceiver<String>) {
        let (refused, refusals) = mpsc::unbounded_channel();
        let options = match name {
            "hello" => ConnectOptions::with_nkey(self.service.seed().unwrap()),
            gate => {
                let (user, password) = (gate.to_owned(), "gate's secret".to_owned());
                ConnectOptions::with_user_and_password(user, password)
            }
        };
        let options = options.event_callback(move |event| {
            if let Event::ServerError(error) = event {
                let _ = refused.send(error.to_string());
            }
            std::future::ready(())
        });
        let client = options.connect(self.nats.url()).await.unwrap();
        (client, refusals)
    }
}

impl Net for Guarded {
    fn options(&self, name: &str) -> NatsOptions {
        let mut options = self.nats.options(name);
        options.auth = match name {
            "hello" => Auth::NKey(Secret::text(self.service.seed().unwrap())),
            gate => Auth::UserPassword {
                user: gate.to_owned(),
                password: Secret::text("gate's secret"),
            },
        };
        options
    }

    fn admin(&self) -> ConnectOptions {
        ConnectOptions::with_user_and_password("admin".to_owned(), "all".to_owned())
    }

    fn url(&self) -> String {
        self.nats.url()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_permissions_all_works() {
    let guarded = Guarded::start().await;
    let hello = Hello::rust(guarded.options("hello")).await;
    suite::run(&guarded, hello).await;
}

/// What each may not do. A service is neither a client nor a gate nor another service, and
/// a gate is no service and no other gate.
#[tokio::test]
async fn what_is_not_needed_is_refused() {
    let guarded = Guarded::start().await;
    let service_may_not = [
        // Play a client, or a gate that tells of one.
        "pub tidegate.g.hello.login",
        "pub tidegate.c.hello.echo",
        "pub tidegate.c.chat.say",
        "pub tidegate.e.hello.disconnected",
        "pub tidegate.i.hello.1.c.echo",
        "pub tidegate.i.hello.1.e.rebound",
        "pub tidegate.all.started",
        "pub tidegate.gates.broadcast",
        // Answer in the name of others.
        "pub tidegate.inbox.gate-1.n.r0.1-1",
        "pub tidegate.inbox.chat.n.1",
        // Change the records.
        "pub $KV.tidegate-users.u.1",
        "pub $KV.tidegate-gates.gate-1",
        "pub $JS.API.STREAM.DELETE.KV_tidegate-users",
        "pub $JS.API.STREAM.MSG.GET.KV_tidegate-users",
        // Read what is for others.
        "sub >",
        "sub tidegate.>",
        "sub tidegate.*.*.*",
        "sub tidegate.c.chat.*",
        "sub tidegate.i.chat.>",
        "sub tidegate.gate.gate-1.>",
        "sub tidegate.any.*",
        "sub tidegate.inbox.gate-1.>",
        "sub tidegate.inbox.chat.>",
        "sub $KV.>",
        "sub $JS.>",
    ];
    let gate_may_not = [
        // Take the calls of services, or answer in their name.
        "sub >",
        "sub tidegate.>",
        "sub tidegate.*.*.*",
        "sub tidegate.c.hello.*",
        "sub tidegate.i.hello.>",
        "sub tidegate.gate.gate-2.>",
        "sub tidegate.inbox.gate-2.>",
        "sub tidegate.inbox.hello.>",
        "sub $SRV.INFO.hello",
        "pub tidegate.inbox.gate-2.n.r0.1-1",
        "pub tidegate.inbox.hello.n.1",
        "pub $JS.API.STREAM.DELETE.KV_tidegate-users",
        "pub $JS.API.STREAM.PURGE.KV_tidegate-users",
        "pub $JS.API.STREAM.CREATE.other",
    ];
    for (who, may_not) in [("hello", &service_may_not[..]), ("gate-1", &gate_may_not)] {
        let (client, mut refusals) = guarded.client(who).await;
        let everything = guarded.admin().connect(guarded.url()).await.unwrap();
        let mut seen = everything.subscribe("tidegate.>").await.unwrap();
        everything.flush().await.unwrap();
        let mut listening = Vec::new();
        for what in may_not {
            let (verb, subject) = what.split_once(' ').unwrap();
            match verb {
                "pub" => client.publish(subject, "forged".into()).await.unwrap(),
                _ => listening.push(client.subscribe(subject).await.unwrap()),
            }
            client.flush().await.unwrap();
            let refusal = tokio::time::timeout(Duration::from_secs(20), refusals.recv()).await;
            let refusal = refusal
                .unwrap_or_else(|_| panic!("{who} may {what}"))
                .unwrap();
            let named = refusal.to_lowercase().contains(&subject.to_lowercase());
            assert!(
                refusal.contains("Violation") && named,
                "{who}, {what}: {refusal}"
            );
        }
        // Nothing of it came through.
        everything
            .publish("tidegate.mark", "".into())
            .await
            .unwrap();
        let first = futures_util::StreamExt::next(&mut seen).await.unwrap();
        assert_eq!(&*first.subject, "tidegate.mark", "{who}");
    }
}

#[tokio::test]
async fn who_is_not_known_is_not_let_in() {
    let guarded = Guarded::start().await;
    let nobody = guarded.nats.options("gate-1");
    let mut wrong = nobody.clone();
    wrong.auth = Auth::UserPassword {
        user: "gate-1".to_owned(),
        password: Secret::text("guessed"),
    };
    let mut other_key = nobody.clone();
    other_key.auth = Auth::NKey(Secret::text(KeyPair::new_user().seed().unwrap()));
    for options in [nobody, wrong, other_key] {
        let refused = Nats::connect(options).await.unwrap_err();
        assert!(matches!(refused, ConnectError::Refused), "{refused:?}");
    }
}
