//! The numbers in `docs/protocol.md` are those of the code.

use tidegate_protocol::{CloseReason, ErrorCode};

const PAGE: &str = include_str!("../../../docs/protocol.md");

/// Rows `| number | `Name` | text… |` of the page.
fn rows() -> Vec<(u16, String, String)> {
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let number = cells.next()?.parse().ok()?;
        let name = cells.next()?.trim_matches('`').to_owned();
        let text = cells.next()?.trim_end_matches([' ', '|']).to_owned();
        Some((number, name, text))
    };
    PAGE.lines().filter_map(row).collect()
}

#[test]
fn every_close_reason_and_error_code_stands_there_as_it_is() {
    let mut rows = rows();
    for reason in CloseReason::ALL {
        let text = match reason {
            CloseReason::ConnectionLost
            | CloseReason::Handshake
            | CloseReason::TooManyConnections => {
                format!("{} (never sent)", reason.text())
            }
            _ => reason.text().to_owned(),
        };
        take(&mut rows, (reason.code(), reason.name().to_owned(), text));
    }
    for code in ErrorCode::ALL {
        take(
            &mut rows,
            (code.0, code.name().to_owned(), code.text().to_owned()),
        );
    }
    assert!(rows.is_empty(), "not in the code: {rows:?}");
}

fn take(rows: &mut Vec<(u16, String, String)>, row: (u16, String, String)) {
    let found = rows.iter().position(|r| *r == row);
    rows.remove(found.unwrap_or_else(|| panic!("not in docs/protocol.md: {row:?}")));
}
