//! Texts from exporters, made harmless for logs, databases, sheets and pages.
//!
//! Names of interfaces and applications are whatever somebody typed, or an attacker sent. Promises: valid UTF-8 without
//! control characters, at most [`MAX_CHARACTERS`]; what was no such text is replaced and told.

/// The longest text kept, in characters.
const MAX_CHARACTERS: usize = 255;

/// The text in `bytes` up to the first NUL, and whether something of it had to be replaced or cut. `None` when nothing is
/// left.
pub(super) fn clean(bytes: &[u8]) -> Option<(String, bool)> {
    let bytes = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    let lossy = String::from_utf8_lossy(bytes);
    let mut fixed = matches!(lossy, std::borrow::Cow::Owned(_));
    let mut characters = lossy.trim().chars();
    let text: String = characters
        .by_ref()
        .take(MAX_CHARACTERS)
        .map(|character| {
            let harmless = !character.is_control() && !matches!(character, '\u{2028}' | '\u{2029}');
            fixed |= !harmless;
            if harmless { character } else { char::REPLACEMENT_CHARACTER }
        })
        .collect();
    fixed |= characters.next().is_some();
    (!text.is_empty()).then_some((text, fixed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_out_as_clean_text() {
        for byte in 0..=u8::MAX {
            let said = clean(&[b'a', byte, b'b']);
            let (text, fixed) = said.unwrap();
            assert!(text.chars().all(|character| !character.is_control()), "{byte}");
            assert_eq!(fixed, !(byte == 0 || (32..127).contains(&byte)), "{byte}");
        }
    }

    #[test]
    fn padding_goes_and_length_is_limited() {
        assert_eq!(clean(b"Gi0/1\0\0garbage"), Some(("Gi0/1".to_owned(), false)));
        assert_eq!(clean("  Büro \0".as_bytes()), Some(("Büro".to_owned(), false)));
        assert_eq!((clean(b""), clean(b"\0\0"), clean(b"  ")), (None, None, None));
        let (text, fixed) = clean(&[b'x'; 1_000]).unwrap();
        assert_eq!((text.len(), fixed), (MAX_CHARACTERS, true));
        assert_eq!(clean(b"=1+1;\x1b[31m").unwrap().0, "=1+1;\u{fffd}[31m");
    }
}
