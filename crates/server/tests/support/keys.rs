//! The keys of the configuration, from the reference that the binary prints.

use super::server::run;

/// What the reference says of a key: the schema as users see it.
pub(crate) struct Key {
    /// As in `tcp.limits.read_buffer`.
    pub(crate) path: String,
    pub(crate) takes: String,
    pub(crate) variable: String,
}

pub(crate) fn keys() -> Vec<Key> {
    let reference = run(&["config", "reference"]);
    assert_eq!(reference.code, Some(0));
    let mut keys = Vec::new();
    for part in reference.stdout.split("\n### `").skip(1) {
        let after = |start: &str| {
            let line = part.lines().find_map(|line| line.strip_prefix(start));
            line.unwrap_or_else(|| panic!("no {start} in {part}"))
                .to_owned()
        };
        keys.push(Key {
            path: part.split('`').next().unwrap().to_owned(),
            takes: after("- Takes: "),
            variable: after("- Environment: ").replace('`', ""),
        });
    }
    assert!(keys.len() > 80, "{}", keys.len());
    keys
}

impl Key {
    /// Its table and its name.
    pub(crate) fn table(&self) -> (&str, &str) {
        self.path.rsplit_once('.').unwrap_or(("", &self.path))
    }

    /// A value that no key takes.
    pub(crate) fn wrong(&self) -> &'static str {
        match self.takes.starts_with("a whole number") || self.takes.starts_with("true") {
            true => "\"canary\"",
            false => "1.5",
        }
    }

    /// A file in which this key is wrong, and the line of it.
    pub(crate) fn file(&self) -> (String, usize) {
        let (table, name) = self.table();
        let mut text = String::new();
        let mut here = String::new();
        for part in table.split('.').filter(|part| !part.is_empty()) {
            here += if here.is_empty() { "" } else { "." };
            here += part;
            text += &match part {
                "tcp" | "websocket" | "certificates" => format!("[[{here}]]\n"),
                _ => format!("[{here}]\n"),
            };
            if matches!(part, "tcp" | "websocket") && name != "address" {
                text += "address = \"127.0.0.1:0\"\n";
            }
        }
        text += &format!("{name} = {}\n", self.wrong());
        let line = text.lines().count();
        (text, line)
    }

    /// What is wrong in a variable or a flag, where all is text, and what an error calls it:
    /// of a list it is the element that is wrong.
    pub(crate) fn wrong_text(&self) -> (&'static str, String) {
        let shown = self.shown();
        match &*self.takes {
            list if list.starts_with("a list") => ("[1.5]", format!("{shown}[0]")),
            list if list.ends_with("a list of such") => ("", format!("{shown}[0]")),
            _ => ("", shown),
        }
    }

    /// What an error calls it.
    pub(crate) fn shown(&self) -> String {
        self.path
            .replacen("tcp.", "tcp[0].", 1)
            .replacen("websocket.", "websocket[0].", 1)
            .replacen("certificates.", "certificates[0].", 1)
    }
}
