//! What can be wrong with each key in particular.

/// Key (lists without numbers), a wrong value as TOML, and what the message must contain.
pub(super) fn rows() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    ROWS.trim().lines().map(|row| {
        let mut cells = row.splitn(3, " | ");
        let mut cell = || cells.next().unwrap();
        (cell(), cell(), cell())
    })
}

const ROWS: &str = r#"
id | "a b" | found "a b", expected 1 to 64 of A-Z a-z 0-9 _ -
id | "a.b" | found "a.b"
bus | "redis" | found "redis", expected "local" or "nats"
bus | "NATS" | found "NATS", expected "local" or "nats"; did you mean "nats"?
shards | 0 | found 0, expected a whole number from 1 to 1024
shards | "many" | found "many"
services | ["ecko"] | found "ecko", expected "echo", "chat" or "auth"; did you mean "echo"?
services | "echo" | found "echo", expected a list
services | ["nats"] | found "nats"
expose | ["a/b/c"] | found "a/b/c", expected "service" or "service/method"
trusted_proxies | ["10.0.0.0/33"] | found "10.0.0.0/33", expected a network
trusted_proxies | ["proxy.example"] | found "proxy.example"
tcp | 3 | found a number, expected a list of tables: [[tcp]]
websocket | { address = "a:1" } | found a table, expected a list of tables: [[websocket]]
limits | [] | found a list, expected a table: [limits]
gate | 1 | found a number, expected a table: [gate]
store | "memory" | found text, expected a table: [store]
auth | true | found true or false, expected a table: [auth]
logins | 1 | found a number, expected a table: [logins]
admin | "127.0.0.1:3656" | found text, expected a table: [admin]
log | "debug" | found text, expected a table: [log]
store.kind | "disk" | found "disk", expected "memory", "embedded", "redis" or "nats"
store.kind | "Embeded" | did you mean "embedded"?
store.path | ["a"] | found a list, expected a path
store.ttl | "0s" | found "0s", expected a time from 2s to 365d
store.max_users | 0 | found 0, expected a whole number from 1 to 4294967295
store.redis | "redis://a" | found text, expected a table: [redis]
store.redis.servers | "a:6379" | found "a:6379", expected a server such as "redis://127.0.0.1:6379"
store.redis.servers | "redis://:canary@a" | found a URL with credentials, expected a server
store.redis.servers | ["redis://a/2"] | found "redis://a/2", expected a server
store.redis.user | "" | found "", expected text that is not empty
store.redis.password | "" | found nothing, expected a secret of 1 to 1024 bytes
store.redis.password_file | 1 | found 1, expected a path
store.redis.database | -1 | found -1, expected a whole number from 0
store.redis.prefix | "a:b" | found "a:b", expected 1 to 64 of A-Z a-z 0-9 . _ -
store.redis.connect_timeout | "2m" | found "2m", expected a time from 100ms to 1m
store.redis.answer_timeout | 3 | found 3, expected a time
store.redis.in_flight | 0 | found 0, expected a whole number from 1 to 65536
store.redis.tls | true | found true or false, expected a table: [tls]
store.redis.tls.ca | 1 | found 1, expected a path
store.redis.tls.cert | [] | found a list, expected a path
store.redis.tls.key | "" | found "", expected a path
store.nats | true | found true or false, expected a table: [nats]
store.nats.replicas | 6 | found 6, expected a whole number from 1 to 5
store.nats.in_memory | "no" | found "no", expected true or false
store.nats.max_bytes | "1G" | found "1G", expected a whole number of at least 65536
store.nats.create | 1 | found 1, expected true or false
store.nats.timeout | "2m" | found "2m", expected a time from 100ms to 1m
nats | "nats://127.0.0.1:4222" | found text, expected a table: [nats]
nats.servers | "127.0.0.1:4222" | found "127.0.0.1:4222", expected a server such as "nats://127.0.0.1:4222"
nats.servers | ["nats://a:4222", "http://b"] | found "http://b", expected a server
nats.servers | "nats://ada:canary@a:4222" | found a URL with credentials, expected a server
nats.servers | ["nats://canary@a"] | credentials have keys of their own
nats.user | "" | found "", expected text that is not empty
nats.password | "" | found nothing, expected a secret of 1 to 1024 bytes
nats.password_file | 1 | found 1, expected a path
nats.token | 1 | found a number, expected a secret of 1 to 1024 bytes
nats.token_file | "" | found "", expected a path
nats.nkey_seed_file | [] | found a list, expected a path
nats.creds_file | {} | found a table, expected a path
nats.prefix | "a.b.c.d" | found "a.b.c.d", expected 1 to 3 parts of A-Z a-z 0-9 _ -
nats.prefix | "a..b" | found "a..b", expected 1 to 3 parts
nats.prefix | "a.*" | found "a.*", expected 1 to 3 parts
nats.prefix | "a b" | found "a b", expected 1 to 3 parts
nats.prefix | "a\n" | expected 1 to 3 parts
nats.name | "a.b" | found "a.b", expected 1 to 64 of A-Z a-z 0-9 _ -
nats.wait | true | found true, expected "off" or a time
nats.wait | "0s" | found "0s", expected "off" or a time from 100ms
nats.connect_timeout | "2h" | found "2h", expected a time from 100ms to 1h
nats.ask_timeout | 5 | found 5, expected a time
nats.call_timeout | "1d" | found "1d", expected a time from 100ms to 1h
nats.lease | "1s" | found "1s", expected a time from 2s to 1h
nats.replicas | 0 | found 0, expected a whole number from 1 to 5
nats.in_flight | 0 | found 0, expected a whole number from 1 to 16777216
nats.outbound | "many" | found "many", expected a whole number
nats.inbound | 16777217 | found 16777217, expected a whole number
nats.events | -1 | found -1, expected a whole number
nats.tls | true | found true or false, expected a table: [tls]
nats.tls.ca | 1 | found 1, expected a path
nats.tls.cert | "" | found "", expected a path
nats.tls.key | [] | found a list, expected a path
nats.tls.first | "yes" | found "yes", expected true or false
auth.timeout | "2h" | found "2h", expected a time from 100ms to 1h
auth.guests | "no" | found "no", expected true or false
auth.client_certificate | "cn" | found "cn", expected "off", "common-name"
auth.client_certificate | "common_name" | did you mean "common-name"?
auth.jwt | "secret" | found text, expected a table: [jwt]
auth.jwt.algorithms | ["none"] | found "none", expected "HS256"
auth.jwt.algorithms | ["hs256"] | did you mean "HS256"?
auth.jwt.algorithms | "HS256" | found "HS256", expected a list
auth.jwt.secret | "short" | found 5 bytes, expected a secret of 32 to 1024 bytes
auth.jwt.secret_file | true | found true, expected a path
auth.jwt.public_key_file | "" | found "", expected a path
auth.jwt.jwks_file | {} | found a table, expected a path
auth.jwt.issuer | 3 | found 3, expected text
auth.jwt.audience | [3] | found 3, expected text
auth.jwt.leeway | "1h" | found "1h", expected a time from 0ms to 10m
auth.jwt.user_claim | "" | found "", expected text that is not empty
auth.jwt.settings_claim | ["a"] | found a list, expected text
auth.jwt.device_claim | "" | found "", expected text that is not empty
auth.jwt.sources | ["header:x"] | found "header:x", expected "authorization"
auth.jwt.sources | ["cookie:"] | found "cookie:"
auth.jwt.close_on_expiry | "yes" | found "yes", expected true or false
logins.limit | 0 | found 0, expected "off" or a whole number from 1 to 1000
logins.limit | "none" | found "none", expected "off" or a whole number
logins.per | "session" | found "session", expected "user" or "device"
logins.over | "replaced" | did you mean "replace"?
admin.address | "3656" | found "3656", expected host:port
admin.address | "unix:/run/a" | found "unix:/run/a", expected host:port
admin.token | "short" | found 5 bytes, expected a secret of 16 to 1024 bytes
admin.token_file | [] | found a list, expected a path
admin.hosts | ["gate.example:80"] | found "gate.example:80", expected a host name without a port
admin.hosts | ["*"] | found "*"
log.format | "xml" | found "xml", expected "auto", "human" or "json"
log.level | "loud" | found "loud", expected "error", "warn", "info", "debug" or "trace"
log.level | "debgu" | did you mean "debug"?
gate.max_connections | 0 | found 0, expected a whole number of at least 1
gate.max_connections_per_address | -1 | found -1, expected a whole number of at least 1
gate.memory_budget | "1G" | found "1G", expected a whole number of at least 65536
gate.memory_budget | 1024 | found 1024
gate.drain_wait | "1ms" | found "1ms", expected "off" or a time from 100ms
gate.drain_wait | true | found true, expected "off" or a time
gate.shutdown_timeout | "0s" | found "0s", expected a time from 100ms to 365d
gate.store_timeout | 5 | found 5, expected a time
gate.max_dormant | -1 | found -1, expected a whole number from 0
gate.max_groups_per_session | -1 | found -1, expected a whole number from 0
gate.max_instance_bindings | 1.5 | found 1.5, expected a whole number
gate.accept_rate | 0 | found 0, expected "off" or a whole number per second
gate.accept_rate | "on" | found "on"
gate.accept_rate.per_second | 0 | found 0, expected a whole number from 1
gate.accept_rate.burst | "2" | found "2", expected a whole number from 1
gate.tls_watch | "1ms" | found "1ms", expected "off" or a time from 100ms
gate.tls_watch | false | found false, expected "off" or a time
limits.concurrent_tasks | 0 | found 0, expected a whole number from 1 to 65535
limits.read_buffer | 63 | found 63, expected a whole number from 64 to 1048576
limits.max_packet_size | 65536 | found 65536, expected a whole number from 5 to 65535
limits.send_queue_packets | 0 | found 0
limits.send_queue_bytes | 1023 | found 1023, expected a whole number from 1024
limits.setup_timeout | 10 | found 10, expected a time
limits.heartbeat_timeout | "60" | found "60", expected a time
limits.partial_frame_timeout | "30 s" | found "30 s", expected a time
limits.write_timeout | "soon" | found "soon", expected a time
limits.close_timeout | "400d" | found "400d", expected a time from 100ms to 365d
limits.call_timeout | "10sec" | found "10sec", expected a time
limits.bind_deadline | "of" | found "of", expected "off" or a time
limits.packet_rate | -1 | found -1, expected "off" or a whole number per second
limits.packet_rate | "100/s" | found "100/s"
limits.packet_rate.per_second | 4294967296 | found 4294967296
limits.packet_rate.burst | 0 | found 0, expected a whole number from 1
limits.byte_rate | "1M" | found "1M"
limits.byte_rate.per_second | "1" | found "1"
limits.byte_rate.burst | true | found true
limits.hello_wait | "1" | found "1", expected a time
limits.resume_window | "none" | found "none", expected "off" or a time
limits.resume_packets | 31 | found 31, expected a whole number from 32
limits.resume_bytes | 1000 | found 1000, expected a whole number from 1024
limits.max_upgrade_size | 255 | found 255, expected a whole number from 256
limits.max_fragments | 0 | found 0
tcp.address | "127.0.0.1" | found "127.0.0.1", expected host:port
tcp.address | "unix:run/a" | found "unix:run/a"
tcp.address | 3653 | found 3653, expected host:port
tcp.name | "" | found "", expected a name
tcp.name | "a\u0007b" | found "a\u{7}b", expected a name
tcp.tls | true | found true or false, expected a table: [tls]
tcp.tls.cert | ["cert.pem"] | found a list, expected a path
tcp.tls.key | "" | found "", expected a path
tcp.tls.certificates | ["cert.pem"] | found text, expected a table
tcp.tls.certificates.cert | 1 | found 1, expected a path
tcp.tls.certificates.key | "" | found "", expected a path
tcp.tls.client_auth | true | found true, expected "off", "optional" or "required"
tcp.tls.client_auth | "require" | did you mean "required"?
tcp.tls.client_ca | [] | found a list, expected a path
tcp.cipher | "aes" | found "aes", expected "none", "aes-ecb" or "aes-cbc"
tcp.cipher | "aes_cbc" | did you mean "aes-cbc"?
tcp.encryption_key | "" | found nothing, expected a secret of 1 to 1024 bytes
tcp.encryption_key_file | "" | found "", expected a path
tcp.protocol | "v2" | found "v2", expected "any", "v1" or "extended"
tcp.protocol | "extented" | did you mean "extended"?
tcp.resume_over_plaintext | "on" | found "on", expected true or false
tcp.v1_error_topic | "$error" | found "$error", expected a topic
tcp.proxy_protocol | "v2" | found "v2", expected true or false
tcp.trusted_proxies | "10.0.0.0/8" | found "10.0.0.0/8", expected a list
tcp.keep_alive | "60s" | found text, expected "off" or a table, such as { idle
tcp.keep_alive | true | found true or false, expected "off"
tcp.keep_alive.idle | "999ms" | found "999ms", expected a time from 1s
tcp.keep_alive.interval | 15 | found 15, expected a time
tcp.keep_alive.retries | 128 | found 128, expected a whole number from 1 to 127
tcp.notsent_lowat | 0 | found 0, expected a whole number from 1
tcp.ipv6_only | "yes" | found "yes", expected true or false
tcp.unix_mode | 660 | found 660, expected a mode of octal digits in quotes
tcp.unix_mode | "0o660" | found "0o660"
tcp.unix_mode | "1777" | found "1777"
tcp.limits | "none" | found text, expected a table: [limits]
websocket.path | "gate" | found "gate", expected a path that begins with /
websocket.path | "/?a" | found "/?a"
websocket.origins | ["example.com"] | found "example.com", expected an origin
websocket.origins | "*" | found "*", expected a list
websocket.subprotocols | ["a b"] | found "a b", expected a name of letters
websocket.allow_text | "on" | found "on", expected true or false
websocket.forwarded | true | found true, expected "off", "x-forwarded-for" or "forwarded"
websocket.forwarded | "X-Forwarded-For" | did you mean "x-forwarded-for"?
"#;
