//! Tokens to a tree, by recursive descent over the grammar in the module's documentation.

use super::error::FilterError;
use super::lexer::{Token, TokenKind, tokens};
use super::tree::{
    Comparison, Expression, FLAG_LETTERS, FlagTest, NumberTest, canonical_network, dimension, direction, words_after,
};
use crate::flow::fields::{Dimension, Field, Kind};
use crate::flow::local::Local;
use crate::flow::names::{firewall_event_number, protocol_number};
use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// The longest filter, in bytes.
pub const MAX_LENGTH: usize = 8 * 1024;
/// How many parts a filter may have: primitives, `not`s, and chains of `and` or `or`.
pub const MAX_NODES: usize = 200;
/// How deep parentheses may nest.
pub const MAX_DEPTH: usize = 32;

/// Reads a filter in which no network is local, as [`parse_within`] does.
///
/// # Errors
/// Where and why the text is no filter.
pub fn parse(text: &str) -> Result<Expression, FilterError> {
    parse_within(text, &Local::default())
}

/// Reads a filter, in which `net local` means the networks of `local`. The error says at which byte the text stops making
/// sense, what was expected there and what was found.
///
/// # Errors
/// Where and why the text is no filter.
pub fn parse_within(text: &str, local: &Local) -> Result<Expression, FilterError> {
    let too_long = || FilterError::new(MAX_LENGTH, format!("the filter is longer than {MAX_LENGTH} bytes"));
    if text.len() > MAX_LENGTH {
        return Err(too_long());
    }
    let mut parser = Parser { tokens: tokens(text)?, local, next: 0, nodes: 0, depth: 0 };
    if parser.peek().kind == TokenKind::End {
        return Ok(Expression::Any);
    }
    let expression = parser.either()?;
    let rest = parser.peek();
    if rest.kind != TokenKind::End {
        return Err(FilterError::expected(rest.position, "`and`, `or` or the end of the filter", rest.text));
    }
    // Numbers like `1g` grow when written out; the canonical text must be a filter too.
    if expression.to_string().len() > MAX_LENGTH { Err(too_long()) } else { Ok(expression) }
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    local: &'a Local,
    next: usize,
    nodes: usize,
    depth: usize,
}

const END: Token<'static> = Token { kind: TokenKind::End, text: "", position: 0 };

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        self.tokens.get(self.next).copied().unwrap_or(END)
    }

    /// Takes the next token. The end is never passed.
    fn take(&mut self) -> Token<'a> {
        let token = self.peek();
        if token.kind != TokenKind::End {
            self.next = self.next.saturating_add(1);
        }
        token
    }

    /// Takes the next token if it is one of `texts`.
    fn accept(&mut self, texts: &[&str]) -> bool {
        let token = self.peek();
        let found = texts.iter().any(|text| token.is(text));
        if found {
            self.take();
        }
        found
    }

    fn expect(&mut self, text: &str) -> Result<(), FilterError> {
        let token = self.take();
        if token.is(text) {
            Ok(())
        } else {
            Err(FilterError::expected(token.position, format_args!("`{text}`"), token.text))
        }
    }

    /// Counts a part of the tree that begins at `position`.
    fn count(&mut self, position: usize) -> Result<(), FilterError> {
        self.nodes = self.nodes.saturating_add(1);
        if self.nodes <= MAX_NODES {
            return Ok(());
        }
        Err(FilterError::new(position, format!("the filter has more than {MAX_NODES} parts; use `in [..]` for lists")))
    }

    fn either(&mut self) -> Result<Expression, FilterError> {
        let mut parts = vec![self.both()?];
        while self.accept(&["or", "||"]) {
            if parts.len() == 1 {
                self.count(self.peek().position)?;
            }
            parts.push(self.both()?);
        }
        Ok(Expression::one_of(parts))
    }

    fn both(&mut self) -> Result<Expression, FilterError> {
        let mut parts = vec![self.negation()?];
        while self.accept(&["and", "&&"]) {
            if parts.len() == 1 {
                self.count(self.peek().position)?;
            }
            parts.push(self.negation()?);
        }
        Ok(Expression::all(parts))
    }

    fn negation(&mut self) -> Result<Expression, FilterError> {
        let mut negated = false;
        let start = self.peek().position;
        while self.accept(&["not", "!"]) {
            negated = !negated;
        }
        if negated {
            self.count(start)?;
        }
        let open = self.peek();
        let inner = if self.accept(&["("]) {
            self.depth = self.depth.saturating_add(1);
            if self.depth > MAX_DEPTH {
                let message = format!("parentheses nest more than {MAX_DEPTH} deep");
                return Err(FilterError::new(open.position, message));
            }
            let inner = self.either()?;
            self.depth = self.depth.saturating_sub(1);
            let close = self.take();
            if !close.is(")") {
                return Err(FilterError::expected(close.position, "`and`, `or` or `)`", close.text));
            }
            inner
        } else {
            self.count(open.position)?;
            self.primitive()?
        };
        Ok(if negated { inner.not() } else { inner })
    }

    fn primitive(&mut self) -> Result<Expression, FilterError> {
        let first = self.take();
        if first.kind != TokenKind::Word {
            return Err(FilterError::expected(first.position, "a primitive such as `dst ip 10.0.0.1`", first.text));
        }
        let word = first.text.to_ascii_lowercase();
        let direction = match word.as_str() {
            "any" => return Ok(Expression::Any),
            "ipv4" | "inet" => return Ok(Expression::Ipv4),
            "ipv6" | "inet6" => return Ok(Expression::Ipv6),
            "flags" => return self.flags(),
            "bgp" => {
                self.expect("next")?;
                "bgp next"
            }
            // By itself it is the name of a field.
            "nat" if !self.peek().is("event") => return self.subject("", first),
            word => match direction(word) {
                Some(direction) => direction,
                None => return self.subject("", first),
            },
        };
        let subject = self.take();
        self.subject(direction, subject)
    }

    /// What follows a subject such as `port` after a direction such as `src`.
    fn subject(&mut self, direction: &str, subject: Token<'a>) -> Result<Expression, FilterError> {
        let network = subject.is("net");
        let word = if network || subject.is("host") { "ip" } else { subject.text };
        let Some(of) = dimension(direction, word) else {
            let mut words: Vec<_> = words_after(direction);
            words.extend(words.contains(&"ip").then_some("net"));
            let list = words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
            let expected = if direction.is_empty() {
                format!("`any`, `ipv4`, `ipv6`, `src`, `dst`, `flags`, {list} or the name of a field")
            } else {
                format!("one of {list} after `{direction}`")
            };
            return Err(FilterError::expected(subject.position, expected, subject.text));
        };
        let maximum = match of.kind() {
            Kind::Address => return self.addresses(of, network, subject.is("host")),
            Kind::U8 => u64::from(u8::MAX),
            Kind::U16 => u64::from(u16::MAX),
            Kind::U32 => u64::from(u32::MAX),
            Kind::U64 => u64::MAX,
            Kind::Time | Kind::Mac => {
                let message = format!("`{}` holds neither addresses nor numbers, so it cannot be filtered", of.name());
                return Err(FilterError::new(subject.position, message));
            }
        };
        if self.accept(&["in"]) {
            return Ok(Expression::number_in(of, self.list(|parser| parser.number_of(of, maximum))?));
        }
        let comparison = self.comparison();
        let test = NumberTest::Compare(comparison, self.number_of(of, maximum)?);
        Ok(Expression::Number { of, test })
    }

    /// `[`, items with or without commas, `]`; at least one item.
    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T, FilterError>) -> Result<Vec<T>, FilterError> {
        self.expect("[")?;
        let mut items = vec![item(self)?];
        while !self.accept(&["]"]) {
            self.accept(&[","]);
            if self.peek().kind == TokenKind::End {
                return Err(FilterError::expected(self.peek().position, "`]`", ""));
            }
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn addresses(&mut self, of: Dimension, network: bool, host: bool) -> Result<Expression, FilterError> {
        if network {
            let word = self.peek();
            if !self.accept(&["local"]) {
                return Ok(Expression::address(of, [self.network()?]));
            }
            let local = self.local.networks();
            if local.is_empty() {
                let message = "no network is local: name some in [network] local";
                return Err(FilterError::new(word.position, message));
            }
            return Ok(Expression::address(of, local.iter().copied()));
        }
        if !host && self.accept(&["in"]) {
            let item = |parser: &mut Self| {
                let address = parser.ip()?;
                if parser.accept(&["/"]) { parser.length(address) } else { Ok(IpNetwork::from(address)) }
            };
            return Ok(Expression::address(of, self.list(item)?));
        }
        self.accept(&["=", "==", "eq"]);
        let address = self.ip()?;
        let slash = self.peek();
        if slash.is("/") {
            let message = "`ip` takes one address; write `net` for a network, or `ip in [..]` for several";
            return Err(FilterError::new(slash.position, message));
        }
        Ok(Expression::address(of, [IpNetwork::from(address)]))
    }

    fn ip(&mut self) -> Result<IpAddr, FilterError> {
        let token = self.take();
        let expected = "a full IPv4 or IPv6 address (names are not looked up)";
        token.text.parse().map_err(|_| FilterError::expected(token.position, expected, token.text))
    }

    fn network(&mut self) -> Result<IpNetwork, FilterError> {
        let address = self.ip()?;
        if self.accept(&["/"]) {
            return self.length(address);
        }
        let token = self.take();
        let mask = token.text.parse::<IpAddr>().ok().filter(|mask| mask.is_ipv4() == address.is_ipv4());
        let network = mask.and_then(|mask| ipnetwork::ip_mask_to_prefix(mask).ok());
        network.and_then(|length| canonical_network(address, length)).ok_or_else(|| {
            FilterError::expected(token.position, "`/` and a length, or a mask such as 255.255.0.0", token.text)
        })
    }

    /// The length after `address/`.
    fn length(&mut self, address: IpAddr) -> Result<IpNetwork, FilterError> {
        let maximum = if address.is_ipv4() { 32 } else { 128 };
        let token = self.take();
        let length = token.text.parse::<u8>().ok().filter(|length| *length <= maximum);
        length.and_then(|length| canonical_network(address, length)).ok_or_else(|| {
            FilterError::expected(token.position, format_args!("a prefix length from 0 to {maximum}"), token.text)
        })
    }

    /// A comparison; equality when there is none.
    fn comparison(&mut self) -> Comparison {
        let comparisons: &[(&[&str], Comparison)] = &[
            (&["=", "==", "eq"], Comparison::Equal),
            (&[">", "gt"], Comparison::Greater),
            (&["<", "lt"], Comparison::Less),
            (&[">=", "ge"], Comparison::AtLeast),
            (&["<=", "le"], Comparison::AtMost),
        ];
        comparisons
            .iter()
            .find(|(texts, _)| self.accept(texts))
            .map_or(Comparison::Equal, |(_, comparison)| *comparison)
    }

    /// A number up to `maximum`; for protocols and events of firewalls also a name.
    fn number_of(&mut self, of: Dimension, maximum: u64) -> Result<u64, FilterError> {
        let token = self.take();
        let (named, name) = match of {
            Dimension::One(Field::Protocol) => (protocol_number(token.text), "a protocol's name or "),
            Dimension::One(Field::FirewallEvent) => (firewall_event_number(token.text), "an event's name or "),
            _ => (None, ""),
        };
        let number = number(token.text).or(named.map(u64::from)).filter(|number| *number <= maximum);
        number.ok_or_else(|| {
            FilterError::expected(token.position, format_args!("{name}a number from 0 to {maximum}"), token.text)
        })
    }

    /// What follows `flags`.
    fn flags(&mut self) -> Result<Expression, FilterError> {
        let first = self.next;
        let comparison = self.comparison();
        let compared = self.next != first;
        let token = self.take();
        if let Some(number) = number(token.text).and_then(|number| u16::try_from(number).ok()) {
            return Ok(Expression::Flags(FlagTest::Compare(comparison, number)));
        }
        let expected = "letters of FSRPAUECX or a number from 0 to 65535 after `flags`";
        let error = || FilterError::expected(token.position, expected, token.text);
        let mut bits = 0;
        for letter in token.text.chars() {
            let bit = FLAG_LETTERS.iter().find(|(known, _)| *known == letter).map(|(_, bit)| *bit);
            bits |= if letter == 'X' { 0x3f } else { bit.ok_or_else(error)? };
        }
        match comparison {
            _ if bits == 0 => Err(error()),
            Comparison::Equal if compared => Ok(Expression::Flags(FlagTest::Compare(comparison, bits))),
            Comparison::Equal => Ok(Expression::Flags(FlagTest::All(bits))),
            _ => Err(FilterError::expected(token.position, "a number after a comparison of flags", token.text)),
        }
    }
}

/// A number as the language writes it, if `text` is one that fits 64 bits.
fn number(text: &str) -> Option<u64> {
    if let Some(hexadecimal) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        let digits = hexadecimal.chars().all(|digit| digit.is_ascii_hexdigit());
        return if digits { u64::from_str_radix(hexadecimal, 16).ok() } else { None };
    }
    let factor: u64 = match text.bytes().last()?.to_ascii_lowercase() {
        b'k' => 1_000,
        b'm' => 1_000_000,
        b'g' => 1_000_000_000,
        b't' => 1_000_000_000_000,
        _ => 1,
    };
    let digits = if factor == 1 { text } else { text.get(..text.len().checked_sub(1)?)? };
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(factor)
}
