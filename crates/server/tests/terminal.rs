//! `tidegate connect` on a terminal: the line editor, and what appears on the screen.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use support::Gate;
use support::hostile::{CANARIES, Hostile};
use support::proxy::Proxy;
use support::server::{Scratch, run};
use support::terminal::Terminal;

#[test]
fn lines_are_edited_completed_and_found_again() {
    let (gate, files) = (Gate::start(&[]), Scratch::new());
    let terminal = Terminal::connect(&files, "edit", &[&gate.tcp_url]);
    terminal.sees_last(">");
    terminal.types("echo/echo helo");
    terminal.key("Left");
    terminal.types("l");
    terminal.key("Enter");
    terminal.sees_text(") hello\n");
    // What was asked, and what was pushed, is completed.
    terminal.types("ec");
    terminal.key("Tab");
    terminal.sees_last("> echo/echo");
    terminal.enters(" again");
    terminal.sees_text(") again\n");
    terminal.enters("chat/login ada");
    terminal.enters("chat/tell ada hello");
    terminal.sees_text("<< chat/told");
    terminal.types("wait-for chat/to");
    terminal.key("Tab");
    terminal.sees_last("> wait-for chat/told");
    terminal.key("C-u");
    terminal.types("unw");
    terminal.key("Tab");
    terminal.sees_last("> unwatch");
    terminal.key("C-u");
    // What was typed is found again.
    terminal.key("Up");
    terminal.sees_last("> chat/tell ada hello");
    terminal.key("C-u");
    terminal.key("C-r");
    terminal.types("hel");
    terminal.sees_text("reverse-i-search)`hel': chat/tell ada hello");
    terminal.key("C-r");
    terminal.sees_text("reverse-i-search)`hel': echo/echo hello");
    terminal.key("Enter");
    terminal.sees("a second hello", |screen| {
        screen.matches(") hello\n").count() == 2
    });
    terminal.enters("quit");
    terminal.ends_with(0);
}

#[test]
fn what_arrives_while_typing_leaves_the_line_alone() {
    let (gate, files) = (Gate::start(&[]), Scratch::new());
    let terminal = Terminal::connect(&files, "garble", &[&gate.tcp_url]);
    terminal.sees_last(">");
    terminal.enters("chat/login ada");
    terminal.sees_text("<- chat/login");
    // Longer than the terminal is wide.
    let long = format!("echo/echo {}", "half a line, ".repeat(12));
    terminal.types(&long);
    terminal.sees_text("half a line, half");
    let mut sent = vec!["connect", &gate.tcp_url, "-e", "chat/login bob"];
    for _ in 0..5 {
        sent.extend(["-e", "chat/say between"]);
    }
    assert_eq!(run(&sent).code, Some(0));
    let screen = terminal.sees("all pushes", |screen| screen.contains("<< chat/left"));
    assert_eq!(
        screen.matches("\"text\": \"between\"").count(),
        5,
        "{screen}"
    );
    let lines: Vec<_> = screen.lines().collect();
    let prompt = lines.iter().rposition(|l| l.starts_with("> ")).unwrap();
    let typed: String = lines[prompt..]
        .iter()
        .map(|l| format!("{l:<100}"))
        .collect();
    assert_eq!(typed.trim(), format!("> {long}").trim(), "{screen}");
    // The first line is the key that began it all.
    for line in &lines[1..prompt] {
        let whole = [
            "> ",
            "<< chat/",
            "<- chat/",
            "connected to ",
            "extended protocol 1",
            "session ",
        ];
        assert!(
            whole.iter().any(|w| line.starts_with(w)),
            "{line}:\n{screen}"
        );
    }
    terminal.enters("end");
    terminal.sees_text("half a line, end");
}

#[test]
fn a_paste_waits_for_enter() {
    let (gate, files) = (Gate::start(&[]), Scratch::new());
    let terminal = Terminal::connect(&files, "paste", &[&gate.tcp_url]);
    terminal.sees_last(">");
    terminal.pastes("echo/echo one\necho/echo {\n  \"two\":\n 2}\necho/echo three");
    let screen = terminal.sees_text("echo/echo three");
    assert!(!screen.contains("<-"), "{screen}");
    // It is still typed at.
    terminal.types("!");
    terminal.sees_text("three!");
    terminal.key("Enter");
    let screen = terminal.sees_text(") three!\n");
    assert!(screen.contains(") one\n"), "{screen}");
    assert!(screen.contains(") {\"two\": 2}\n"), "{screen}");
    assert_eq!(screen.matches("<-").count(), 3, "{screen}");
}

/// Terminals that do not tell pastes from typing, and people who type ahead.
#[test]
fn lines_that_come_at_once_are_all_read() {
    let (gate, files) = (Gate::start(&[]), Scratch::new());
    let terminal = Terminal::connect(&files, "ahead", &[&gate.tcp_url]);
    terminal.sees_last(">");
    terminal.types_at_once("echo/echo one\necho/echo two\necho/echo three\nhalf");
    terminal.sees_last("> half");
    let screen = terminal.sees_text(") three\n");
    assert_eq!(screen.matches("<-").count(), 3, "{screen}");
}

#[test]
fn ctrl_c_gives_up_waiting_and_ctrl_d_leaves() {
    let (gate, files) = (Gate::start(&[]), Scratch::new());
    let terminal = Terminal::connect(&files, "keys", &[&gate.tcp_url, "--timeout", "600"]);
    terminal.sees_last(">");
    terminal.key("C-c");
    terminal.sees_text("quit or Ctrl-D leaves");
    let waits = ["wait 600", "wait-for nothing", "echo/after 5s x"];
    for (i, waits) in waits.into_iter().enumerate() {
        terminal.enters(waits);
        // What follows it waits.
        terminal.enters(&format!("echo/echo after {waits}"));
        terminal.key("C-c");
        let screen = terminal.sees_text(&format!(") after {waits}\n"));
        assert_eq!(screen.matches("!! given up").count(), i + 1, "{screen}");
    }
    terminal.key("C-d");
    terminal.ends_with(0);
}

#[test]
fn history_outlives_the_program_and_keeps_no_secrets() {
    let (gate, files) = (Gate::start(&[]), Scratch::new());
    let first = Terminal::connect(&files, "first", &[&gate.tcp_url]);
    first.sees_last(">");
    first.enters("echo/echo remembered");
    first.enters("chat/login canary");
    first.enters(" echo/echo canary");
    first.sees_text("<- echo/echo/3");
    first.key("C-d");
    first.ends_with(0);
    let file = files.path().join("tidegate/history");
    let kept = || fs::read_to_string(&file).unwrap();
    assert_eq!(kept(), "echo/echo remembered\nchat/login\n");
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let second = Terminal::connect(&files, "second", &[&gate.tcp_url]);
    second.sees_last(">");
    second.key("Up");
    second.sees_last("> chat/login");
    second.key("Up");
    second.sees_last("> echo/echo remembered");

    let third = Terminal::connect(&files, "third", &[&gate.tcp_url, "--no-history"]);
    third.sees_last(">");
    third.key("Up");
    third.enters("echo/echo nothing before");
    third.sees_text(") nothing before\n");
    assert!(!kept().contains("nothing before"));
}

#[test]
fn nothing_that_a_gate_sends_does_anything_to_the_terminal() {
    let (gate, files) = (Hostile::start(), Scratch::new());
    let terminal = Terminal::connect(&files, "hostile", &[&gate.url, "--full"]);
    terminal.sees_last(">");
    terminal.enters("a/b x");
    terminal.sees_text("<- a/b/1");
    // The topics of its pushes are not offered either.
    terminal.types("push/");
    terminal.key("Tab");
    terminal.key("Tab");
    terminal.sees_text("push/json");
    terminal.key("C-u");
    terminal.enters("send bye");
    let screen = terminal.ends_with(4);
    for shown in [
        "closed by the gate: \\u{1b}]0;canary",
        "(4504 Kicked); connecting again does not help",
    ] {
        assert!(screen.contains(shown), "{screen}");
    }
    let raw = terminal.raw();
    for canary in CANARIES {
        let found = raw.windows(canary.len()).any(|w| w == canary.as_bytes());
        // The one that is a plain line would be seen at the beginning of one.
        assert!(!found, "{canary:?}");
    }
    let colours = b"\x1b[32m";
    assert!(
        raw.windows(5).any(|w| w == colours),
        "colours on a terminal"
    );
}

#[test]
fn a_gate_that_goes_gives_the_terminal_back() {
    let (gate, files) = (Gate::start(&[]), Scratch::new());
    let terminal = Terminal::connect(&files, "gone", &[&gate.ws_url, "--no-reconnect"]);
    terminal.sees_last(">");
    terminal.types("half a li");
    gate.terminate();
    let screen = terminal.ends_with(4);
    let why = "closed by the gate: the gate is shutting down (4000 Shutdown)";
    assert!(screen.contains(why), "{screen}");
}

/// What people see when their network goes and comes back while they type.
#[test]
fn a_connection_that_is_lost_and_found_leaves_the_line_alone() {
    let (gate, files) = (Gate::start(&[]), Scratch::new());
    let address = gate.tcp_address().parse().unwrap();
    let proxy = Proxy::before(address);
    let terminal = Terminal::connect(&files, "lost", &[&proxy.tcp_url()]);
    terminal.sees_last(">");
    terminal.enters("chat/login ada");
    let screen = terminal.sees_text("<- chat/login/1");
    let (_, session) = screen.split_once("\nsession ").unwrap();
    let session = session.split(' ').next().unwrap().to_owned();
    terminal.types("chat/say half a li");
    proxy.down();
    terminal.sees_text("connection lost: it ended without a $close; trying again in ");
    let tell = "chat/tell ada meanwhile";
    let bob = ["connect", &gate.tcp_url, "-e", "chat/login bob", "-e", tell];
    assert_eq!(run(&bob).code, Some(0));
    proxy.up(address);
    terminal.sees_text("\"text\": \"meanwhile\"");
    let screen = terminal.sees_last("> chat/say half a li");
    let resumed = format!("\nresumed: session {session} goes on; ");
    let (before, after) = screen.split_once(&resumed).unwrap();
    assert!(!before.contains("meanwhile"), "{screen}");
    assert!(after.contains("meanwhile"), "{screen}");
    terminal.enters("ne");
    terminal.sees_text("<- chat/say/2");
    for (typed, completed) in [("cu", "> cut"), ("sta", "> state")] {
        terminal.types(typed);
        terminal.key("Tab");
        terminal.sees_last(completed);
        terminal.key("Enter");
    }
    terminal.sees_text("not acknowledged ");
    terminal.sees("resumed again", |s| s.matches(&resumed).count() == 2);
    terminal.enters("bye");
    terminal.ends_with(0);
    let screen = terminal.screen();
    if std::env::var_os("TIDEGATE_TEST_SHOW").is_some() {
        println!("{screen}");
    }
}
