//! Base64 (RFC 4648 section 4) as old clients write it: the standard alphabet, padded. Line
//! breaks between are passed over: encoders after MIME write them, and the gate that these
//! clients were made for took them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What a byte stands for: 0 to 63, or one of these.
const VALUES: [u8; 256] = values();
const PAD: u8 = 64;
const BREAK: u8 = 65;
const WRONG: u8 = 66;

const fn values() -> [u8; 256] {
    let mut values = [WRONG; 256];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut i = 0;
    while i < alphabet.len() {
        values[alphabet[i] as usize] = i as u8;
        i += 1;
    }
    values[b'=' as usize] = PAD;
    values[b'\r' as usize] = BREAK;
    values[b'\n' as usize] = BREAK;
    values
}

/// Decodes a text where it lies; answers how many bytes came of it, or `None`.
///
/// Written here because it goes over all of the text whatever is wrong with it: how long it
/// takes must not tell where a forged frame decrypts to nonsense.
pub(super) fn decode_in_place(text: &mut [u8]) -> Option<usize> {
    let (mut bits, mut digits, mut pads, mut written) = (0u32, 0usize, 0usize, 0);
    let mut wrong = false;
    for i in 0..text.len() {
        let value = VALUES[usize::from(text[i])];
        let is_digit = value < PAD;
        wrong |= (value == WRONG) | (is_digit & (pads > 0));
        pads += usize::from(value == PAD);
        bits = if is_digit {
            bits << 6 | u32::from(value)
        } else {
            bits
        };
        digits += usize::from(is_digit);
        // Of four digits the second, third and fourth complete a byte. What is written
        // without being one is overwritten; it is never ahead of what is read.
        text[written] = (bits >> left_over(digits)) as u8;
        written += usize::from(is_digit & (digits % 4 != 1));
    }
    let unused = bits & ((1 << left_over(digits)) - 1);
    wrong |= digits % 4 == 1 || (digits + pads) % 4 != 0 || pads > 2 || unused != 0;
    (!wrong).then_some(written)
}

/// Bits that are in no byte yet after so many digits.
fn left_over(digits: usize) -> usize {
    (4 - digits % 4) % 4 * 2
}

/// Bytes of text for so many bytes.
pub(super) fn encoded_len(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

/// Writes the text of `bytes` to the front of `text`, which has room for it.
pub(super) fn encode(bytes: &[u8], text: &mut [u8]) {
    let written = STANDARD.encode_slice(bytes, text);
    debug_assert_eq!(written, Ok(encoded_len(bytes.len())));
}

/// Appends the text of `bytes`.
pub(super) fn append(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + encoded_len(bytes.len()), 0);
    encode(bytes, &mut out[start..]);
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD_NO_PAD;
    use proptest::prelude::*;

    use super::*;

    fn decode(text: &[u8]) -> Option<Vec<u8>> {
        let mut text = text.to_vec();
        let len = decode_in_place(&mut text)?;
        text.truncate(len);
        Some(text)
    }

    #[test]
    fn what_is_base64_and_what_is_not() {
        let text = |t: &str| decode(t.as_bytes()).map(|b| String::from_utf8(b).unwrap());
        for (given, expected) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9v\r\nYmFy\r\n", "foobar"),
            ("Z\ng\n=\n=", "f"),
        ] {
            assert_eq!(text(given).as_deref(), Some(expected), "{given:?}");
        }
        for wrong in [
            "Z", "Zg", "Zg=", "Zm9", "Zg===", "Zm9v=", "Zm9v====", "=", "====", "Z===", "Zg==Zg==",
            "Zg=g", "Zh==", "Zm9=", "Zm9v ", "Zm-v", "Zm_v", "Zm9v\t", "Zm9\0",
        ] {
            assert_eq!(decode(wrong.as_bytes()), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_crate(text in proptest::collection::vec(
            prop_oneof![20 => proptest::sample::select(&b"Aabyz09+/="[..]), 1 => any::<u8>()], 0..40)
        ) {
            prop_assume!(!text.iter().any(|b| matches!(b, b'\r' | b'\n')));
            prop_assert_eq!(decode(&text), STANDARD.decode(&text).ok());
        }

        #[test]
        fn reads_what_is_written(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut text = Vec::new();
            append(&bytes, &mut text);
            prop_assert_eq!(text.len(), encoded_len(bytes.len()));
            prop_assert_eq!(decode(&text), Some(bytes.clone()));
            let bare = STANDARD_NO_PAD.encode(&bytes);
            prop_assert_eq!(decode(bare.as_bytes()).is_some(), bytes.len() % 3 == 0);
        }
    }
}
