//! Everything that the page for those who come from River names is there and does what
//! the page says; and the page has a row for each name that River's gate exports.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

#[path = "parity/gate.rs"]
mod gate;
#[path = "parity/session.rs"]
mod session;

use std::collections::BTreeMap;

use gate::*;
use session::*;

type Test = (fn(), &'static [&'static str]);

/// Which test exercises what takes the place of which names.
const TESTS: &[Test] = &[
    (
        the_frame,
        &[
            "PACK_HEAD_TOTAL_LEN_SIZE",
            "PACK_HEAD_MSG_ID_LEN_SIZE",
            "IClientAgent.OnWriteEncodingPack",
            "IClientAgent.OnReadDecodingPack",
            "Pack",
        ],
    ),
    (
        what_a_service_is_told,
        &[
            "RPC_CLIENT_MSG",
            "RPC_CLIENT_DISCONNECT_MSG",
            "CONTEXT_TRANSKEY_SESSION",
            "ISession.GenRPCContext",
            "ISession.GetTraceSpan",
        ],
    ),
    (
        the_hooks,
        &[
            "FunRecvPackHandler",
            "FunSendMessageHook",
            "RouteHandler",
            "RouteHandler.OnRoute",
            "ISessionLearner",
            "ISessionLearner.OnConnect",
            "ISessionLearner.OnDisConnect",
            "IAgentLearner.Connect",
            "IAgentLearner.DisConnect",
            "IClientAgent.OnClose",
        ],
    ),
    (
        the_store,
        &[
            "StorageHandler",
            "StorageHandler.Storage",
            "StorageHandler.Delete",
            "StorageHandler.Query",
            "StorageHandler.Heartbeat",
        ],
    ),
    (
        a_connection,
        &[
            "IClientAgent",
            "IClientAgent.Init",
            "IClientAgent.Run",
            "IClientAgent.Close",
            "IClientAgent.ConnTime",
            "IClientAgent.IsClosed",
            "IClientAgent.IsShaked",
            "IClientAgent.RecvNum",
            "IClientAgent.SendNum",
            "IClientAgent.GetSession",
            "IClientAgent.SendPack",
            "IClientAgent.GetError",
        ],
    ),
    (
        the_session_table,
        &[
            "IDelegater",
            "IDelegater.GetAgent",
            "IDelegater.GetAgentNum",
            "IDelegater.SessionsRange",
            "IDelegater.OnDestroy",
            "IDelegater.OnRpcLoad",
            "IDelegater.OnRpcBind",
            "IDelegater.OnRpcUnBind",
            "IDelegater.OnRpcPush",
            "IDelegater.OnRpcSet",
            "IDelegater.OnRpcDel",
            "IDelegater.OnRpcSend",
            "IDelegater.OnRpcBroadcast",
            "IDelegater.OnRpcConnected",
            "IDelegater.OnRpcClose",
        ],
    ),
    (
        the_gate,
        &[
            "IGate",
            "app.IRPCModule",
            "IGate.Options",
            "IGate.GetDelegater",
        ],
    ),
    (
        a_session_read_and_changed_here,
        &[
            "ISession",
            "mqrpc.Marshaler",
            "ISession.GetIP",
            "ISession.GetNetwork",
            "ISession.GetSessionID",
            "ISession.GetServerID",
            "ISession.GetUserData",
            "ISession.GetUserID",
            "ISession.GetUserIDUint",
            "ISession.SetUserID",
            "ISession.Get",
            "ISession.Set",
            "ISession.Del",
            "ISession.SetSettings",
            "ISession.ImportSettings",
            "ISession.SettingsRange",
            "ISession.Clone",
            "ISession.CloneSettings",
            "ISession.IsGuest",
        ],
    ),
    (
        a_session_changed_at_its_gate,
        &[
            "ISession.ToUpdate",
            "ISession.ToBind",
            "ISession.ToUnBind",
            "ISession.ToSet",
            "ISession.ToSetBatch",
            "ISession.ToPush",
            "ISession.ToDel",
            "ISession.ToSend",
            "ISession.ToConnected",
            "ISession.ToClose",
        ],
    ),
    (
        the_options,
        &[
            "Options",
            "Option",
            "Options.ConcurrentTasks",
            "ConcurrentTasks()",
            "Options.BufSize",
            "BufSize()",
            "Options.MaxPackSize",
            "MaxPackSize()",
            "Options.SendPackBuffNum",
            "SendPackBuffNum()",
            "Options.OverTime",
            "OverTime()",
            "Options.HeartOverTimer",
            "HeartOverTimer()",
            "Options.TCPAddr",
            "TCPAddr()",
            "TcpAddr()",
            "Options.WsAddr",
            "WsAddr()",
            "Options.Opts",
            "ServerOpts()",
        ],
    ),
    (ciphers, &["Options.EncryptKey", "EncryptKey()"]),
    (
        tls,
        &[
            "Options.TLS",
            "TLS()",
            "Tls()",
            "Options.CertFile",
            "CertFile()",
            "Options.KeyFile",
            "KeyFile()",
        ],
    ),
];

/// Names with nothing in their place: the page says why.
const NONE: &[&str] = &[
    "PACK_BODY_DEFAULT_SIZE_IN_POOL",
    "IAgentLearner",
    "IGate.GetAgentLearner",
    "IGate.GetSessionLearner",
    "IGate.GetStorageHandler",
    "IGate.GetRouteHandler",
    "IGate.GetSendMessageHook",
    "IGate.GetRecvPackHandler",
    "ISession.GenTraceSpan",
];

#[test]
fn every_name_has_one_row_and_one_test() {
    let page = include_str!("../../../docs/coming-from-river.md");
    let mut rows = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, here, differs] = cells[..] else {
            panic!("not three cells: {line}");
        };
        let name = name.trim_matches('`');
        assert!(!here.is_empty(), "{name}: what is in its place?");
        assert!(here != "None" || !differs.is_empty(), "{name}: why?");
        assert!(rows.insert(name, here).is_none(), "{name} has two rows");
    }
    let mut tested = BTreeMap::new();
    let all = TESTS.iter().flat_map(|(_, names)| names.iter().copied());
    for (name, none) in all
        .map(|n| (n, false))
        .chain(NONE.iter().map(|n| (*n, true)))
    {
        assert!(tested.insert(name, none).is_none(), "{name} is here twice");
    }
    let names: Vec<_> = include_str!("data/seed-names.txt").lines().collect();
    for name in &names {
        let here = rows
            .get(name)
            .unwrap_or_else(|| panic!("{name} has no row"));
        let none = tested.get(name);
        let none = none.unwrap_or_else(|| panic!("{name} is in no test"));
        assert_eq!(*here == "None", *none, "{name}: page and test disagree");
    }
    let unknown = |n: &&str| !names.contains(n);
    assert_eq!(rows.keys().copied().find(unknown), None);
    assert_eq!(tested.keys().copied().find(unknown), None);
}
