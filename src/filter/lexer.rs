//! Text to tokens. A token remembers where it stood, so that every error can say so. The lexer knows no word's meaning.

use super::error::FilterError;

/// What sort of token it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// Letters, digits and what addresses and names are made of. Numbers are words too.
    Word,
    /// An operator or a bracket; which one is its text.
    Symbol,
    /// The end of the text; its text is empty.
    End,
}

/// A piece of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: TokenKind,
    pub(super) text: &'a str,
    /// The offset in bytes of the first one.
    pub(super) position: usize,
}

impl Token<'_> {
    /// Whether this is the word or symbol `text`, in any case.
    pub(super) fn is(&self, text: &str) -> bool {
        self.kind != TokenKind::End && self.text.eq_ignore_ascii_case(text)
    }
}

/// Symbols, longer ones before those they begin with.
const SYMBOLS: &[&str] = &["&&", "||", "==", "!=", ">=", "<=", "=", ">", "<", "!", "(", ")", "[", "]", ",", "/"];

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | ':' | '.' | '-')
}

/// All tokens of `text`, the last one being the end.
pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>, FilterError> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let position = text.len().saturating_sub(rest.len());
        let Some(first) = rest.chars().next() else {
            tokens.push(Token { kind: TokenKind::End, text: "", position: text.len() });
            return Ok(tokens);
        };
        if first == '#' {
            rest = rest.split_once('\n').map_or("", |(_, after)| after);
            continue;
        }
        let (kind, length) = if is_word(first) {
            (TokenKind::Word, rest.find(|character| !is_word(character)).unwrap_or(rest.len()))
        } else if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            (TokenKind::Symbol, symbol.len())
        } else {
            let found = rest.get(..first.len_utf8()).unwrap_or_default();
            return Err(FilterError::expected(position, "a word, a number or an operator", found));
        };
        let Some((token, after)) = rest.split_at_checked(length) else { return Ok(tokens) };
        if token == "!=" {
            return Err(FilterError::new(
                position,
                "there is no `!=`; write `not` before the primitive: `not port 80`",
            ));
        }
        tokens.push(Token { kind, text: token, position });
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<&str> {
        tokens(text).unwrap().iter().map(|token| token.text).collect()
    }

    #[test]
    fn words_symbols_blanks_and_comments_come_apart() {
        assert_eq!(texts("port>=80"), ["port", ">=", "80", ""]);
        assert_eq!(
            texts("!src net 10.0.0.0/8&&(any)"),
            ["!", "src", "net", "10.0.0.0", "/", "8", "&&", "(", "any", ")", ""]
        );
        assert_eq!(texts("ip in[::1,fe80::1]"), ["ip", "in", "[", "::1", ",", "fe80::1", "]", ""]);
        assert_eq!(texts("any # all of it\n\tor # and more"), ["any", "or", ""]);
        let positions: Vec<_> = tokens(" any\nor").unwrap().iter().map(|token| token.position).collect();
        assert_eq!(positions, [1, 5, 7]);
    }

    #[test]
    fn characters_of_no_token_are_named_with_their_byte() {
        let error = tokens("any or ü").unwrap_err();
        assert_eq!(
            (error.position, error.message.as_str()),
            (7, "expected a word, a number or an operator, found `ü`")
        );
        let error = tokens("port != 80").unwrap_err();
        assert_eq!(error.position, 5);
        assert!(error.message.contains("not port 80"), "{error}");
    }
}
