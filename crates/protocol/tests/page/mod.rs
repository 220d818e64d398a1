//! `docs/protocol.md`, taken apart: for the tests that hold it to the code.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::expect_used, reason = "in a test's helpers they fail the test")]

pub(crate) const PAGE: &str = include_str!("../../../../docs/protocol.md");

/// The cells of the table with this head, without the marks of code. There is one.
pub(crate) fn table(head: &str) -> Vec<Vec<String>> {
    let mut tables = tables(PAGE, head);
    assert_eq!(tables.len(), 1, "tables with the head {head}");
    tables.remove(0)
}

/// All tables with this head in a part of the page.
pub(crate) fn tables(part: &str, head: &str) -> Vec<Vec<Vec<String>>> {
    let head = format!("\n| {head} |\n");
    let after = part.split(&head).skip(1);
    let rows = |text: &str| {
        let rows = text.lines().take_while(|line| line.starts_with("| "));
        // The first one is the line below the head.
        rows.skip(1).map(cells).collect()
    };
    after.map(rows).collect()
}

fn cells(row: &str) -> Vec<String> {
    let row = row.trim_start_matches("| ").trim_end_matches(" |");
    row.split(" | ").map(|cell| cell.replace('`', "")).collect()
}

/// What stands under a heading, up to the next one.
pub(crate) fn section(heading: &str) -> &'static str {
    let (_, after) = PAGE.split_once(&format!("\n{heading}\n")).expect(heading);
    after.split("\n#").next().unwrap_or_default()
}

/// The blocks of code of a language.
pub(crate) fn blocks(language: &str) -> Vec<&'static str> {
    let open = format!("\n```{language}\n");
    let blocks = PAGE.split(&open).skip(1);
    blocks
        .map(|block| block.split("```").next().unwrap_or_default())
        .collect()
}

/// The bytes of the example that stands behind a line that begins with `head`.
pub(crate) fn bytes_behind(head: &str) -> Vec<u8> {
    let (_, after) = PAGE.split_once(&format!("\n{head}")).expect(head);
    let (_, after) = after.split_once("```text\n").expect(head);
    bytes(after.split("```").next().unwrap_or_default())
}

/// Bytes in hexadecimal, with words two blanks behind them.
pub(crate) fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in text.lines() {
        let (numbers, words) = line.split_once("  ").unwrap_or((line, ""));
        let numbers = numbers.split(' ');
        let numbers: Vec<_> = numbers
            .map(|n| u8::from_str_radix(n, 16).expect(line))
            .collect();
        if let Some(quoted) = words.trim().strip_prefix('"') {
            let quoted = quoted.strip_suffix('"').expect(line);
            assert_eq!(quoted.as_bytes(), numbers, "{line}");
        }
        bytes.extend(numbers);
    }
    bytes
}

/// Fails unless the page says this, whatever its lines' ends.
pub(crate) fn says(phrase: &str) {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words(PAGE).contains(&words(phrase)),
        "not in docs/protocol.md: {phrase}"
    );
}
