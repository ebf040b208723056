//! Query parameters: which ones a route has, and what their values mean.
//!
//! A route names its parameters once, as structs that also document themselves in OpenAPI; [`Asked`] refuses every
//! other name and says which known one is nearest, and refuses a name that stands twice. Values are read here into the
//! types of `query`. This module knows no route.

use super::problem::{Code, Problem};
use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::future::{Ready, ready};
use std::net::IpAddr;
use utoipa::IntoParams;
use utoipa::openapi::path::ParameterIn;

use super::fields::DimensionName;
use crate::clock::Timestamp;
use crate::filter::{self, Expression};
use crate::flow::fields::{CATALOGUE, Dimension, PAIRS};
use crate::flow::local::Local;
use crate::query::window::{WindowRequest, resolve};
use crate::query::{Counters, Engine, MAX_DIMENSIONS, MAX_LIMIT, Order, Window};
use chrono_tz::Tz;

/// The window of time a question is about. Only one way of asking has an example, since Swagger UI sends all examples.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct WindowParams {
    /// First moment of the window, by the time flows were received: RFC 3339 (`2026-11-16T08:00:00+01:00`), or a local
    /// date (`2026-11-16`) or date and time (`2026-11-16T08:00`) in the zone asked for.
    from: Option<String>,
    /// First moment after the window, written like `from`. Left out: now.
    to: Option<String>,
    /// The time up to now (or up to `to`): a number and `s`, `m`, `h`, `d` or `w`, such as `7d`. Left out, with no
    /// other window asked for: the last 24 hours. Give `from` and `to`, or `last`, or `week`.
    #[param(example = "24h")]
    last: Option<String>,
    /// A calendar week (`2026-W47`) from Monday 00:00 to Monday 00:00 in the zone asked for, by ISO 8601.
    week: Option<String>,
    /// The time zone in which local dates and weeks are meant and in which answers are written, by its IANA
    /// name (`Europe/Berlin`). Left out: the zone of the server's configuration.
    tz: Option<String>,
}

impl WindowParams {
    /// The window asked for, seen from `now`.
    pub fn window(&self, default_zone: Tz, now: Timestamp) -> Result<Window, Problem> {
        let request = WindowRequest {
            from: self.from.as_deref().map(restore_plus),
            to: self.to.as_deref().map(restore_plus),
            last: self.last.clone(),
            week: self.week.clone(),
            zone: self.tz.clone(),
        };
        Ok(resolve(&request, default_zone, now)?)
    }
}

/// Undoes what a URL does to a time zone offset: an unescaped `+01:00` arrives as ` 01:00`.
fn restore_plus(moment: &str) -> String {
    match moment.rsplit_once(' ') {
        Some((before, offset))
            if before.contains(['T', 't', ' ']) && offset.len() == 5 && offset.as_bytes().get(2) == Some(&b':') =>
        {
            format!("{before}+{offset}")
        }
        _ => moment.to_owned(),
    }
}

/// Which flows, in which order, how many rows.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RankParams {
    /// What rows are ranked by.
    #[param(value_type = Option<OrderName>)]
    order: Option<String>,
    /// Which flows count, in nfdump's language: `src ip 10.0.0.1`, `dst net 10.0.0.0/8`, `port 443`, `proto tcp`,
    /// `bytes > 1m`, `flags S`, any field's name, joined by `and`, `or`, `not` and parentheses; for instance
    /// `dst net local and not src net local`, where `local` stands for the networks in `[network] local`. Left out: all flows.
    filter: Option<String>,
    /// The format of the answer; it goes before the `Accept` header.
    #[param(value_type = Option<super::format::FormatName>)]
    format: Option<String>,
}

impl RankParams {
    /// The order asked for; bytes if none.
    pub fn order(&self) -> Result<Order, Problem> {
        let Some(name) = self.order.as_deref() else { return Ok(Order::default()) };
        Order::parse(name).ok_or_else(|| invalid("order", name, "bytes, packets or flows"))
    }

    /// The filter asked for, where `net local` means `local`; a blank one is none.
    pub fn filter(&self, local: &Local) -> Result<Option<Expression>, Problem> {
        match self.filter.as_deref() {
            Some(text) if !text.trim().is_empty() => Ok(Some(filter::parse_within(text, local)?)),
            _ => Ok(None),
        }
    }

    /// The format asked for by name.
    pub fn format(&self) -> Option<&str> {
        self.format.as_deref()
    }
}

/// What rows are ranked by.
#[derive(utoipa::ToSchema)]
#[schema(as = Order, rename_all = "snake_case", default = "bytes")]
pub enum OrderName {
    /// Bytes of layer 3.
    Bytes,
    /// Packets.
    Packets,
    /// Flows.
    Flows,
}

/// What sums mean: where exporters sample, and where they tell of the same traffic twice.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CounterParams {
    /// Whether bytes and packets of flows from sampling exporters are multiplied by the sampling interval, as nfdump has
    /// them, or are told as they were exported. Flows are never multiplied, and a filter always sees what was exported.
    #[param(value_type = Option<CountersName>)]
    counters: Option<String>,
    /// Which flows are part of the sums: those that the rules of the configuration count, or all, also those that exporters
    /// told twice. Without rules that is the same. What all flows sum up to is always read flow by flow, where there are
    /// rules.
    #[param(value_type = Option<CountName>)]
    count: Option<String>,
}

impl CounterParams {
    /// An engine that counts what is asked for; by the rules if nothing is.
    pub fn engine(&self, engine: &Engine) -> Result<Engine, Problem> {
        match self.count.as_deref() {
            None | Some("rules") => Ok(engine.clone()),
            Some("all") => Ok(engine.counting_all()),
            Some(other) => Err(invalid("count", other, "rules or all")),
        }
    }

    /// The counters asked for; scaled if none.
    pub fn counters(&self) -> Result<Counters, Problem> {
        let Some(name) = self.counters.as_deref() else { return Ok(Counters::default()) };
        Counters::parse(name).ok_or_else(|| invalid("counters", name, "scaled or raw"))
    }
}

/// What sums of bytes and packets mean where exporters sample.
#[derive(utoipa::ToSchema)]
#[schema(as = Counters, rename_all = "snake_case", default = "scaled")]
pub enum CountersName {
    /// Multiplied by each flow's sampling interval: an estimate of the traffic there was.
    Scaled,
    /// As exported: what was in the packets that the exporter looked at.
    Raw,
}

/// Which flows are part of sums.
#[derive(utoipa::ToSchema)]
#[schema(as = Count, rename_all = "snake_case", default = "rules")]
pub enum CountName {
    /// Those that the rules of the configuration count.
    Rules,
    /// All.
    All,
}

/// What rows are grouped by.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ByParams {
    /// What a row is: one to four fields, separated by commas, of which one may be a pair (`ip`, `port`, ...) that
    /// counts a flow on both sides. nfdump's names (`dstip`) are accepted too. `/api/v1/fields` lists all.
    #[param(value_type = Option<Vec<DimensionName>>, style = Form, explode = false, example = json!(["dst_ip"]))]
    by: Option<String>,
}

impl ByParams {
    /// The dimensions asked for; the destination address if none.
    pub fn dimensions(&self) -> Result<Vec<Dimension>, Problem> {
        let words = self.by.as_deref().unwrap_or("dst_ip");
        let mut dimensions: Vec<Dimension> = Vec::new();
        for word in words.split(',').map(str::trim) {
            let dimension = Dimension::parse(word).ok_or_else(|| unknown_field(word))?;
            if dimensions.contains(&dimension) {
                let name = dimension.name();
                return Err(Problem::new(Code::InvalidParameter, format!("by names {name} twice; name it once.")));
            }
            dimensions.push(dimension);
        }
        if dimensions.len() > MAX_DIMENSIONS {
            let detail = format!("by names {} fields; name at most {MAX_DIMENSIONS}.", dimensions.len());
            return Err(Problem::new(Code::InvalidParameter, detail));
        }
        if dimensions.iter().filter(|dimension| matches!(dimension, Dimension::Either { .. })).count() > 1 {
            let detail = "by names two pairs; a flow can be counted on both sides of one pair only. \
                          Name the sides instead, such as src_ip,dst_ip.";
            return Err(Problem::new(Code::InvalidParameter, detail));
        }
        Ok(dimensions)
    }
}

/// No field is called `word`: says which name is nearest.
fn unknown_field(word: &str) -> Problem {
    let fields = CATALOGUE.iter().flat_map(|row| row.nfdump.iter().copied().chain([row.name]));
    let pairs = PAIRS.iter().flat_map(|row| [row.0, row.1]);
    let hint = match nearest(word, fields.chain(pairs)) {
        Some(name) => format!("; did you mean {name}?"),
        None => "; /api/v1/fields lists all fields.".to_owned(),
    };
    Problem::new(Code::InvalidField, format!("by names no field: {}{hint}", quoted(word)))
}

/// The number of rows asked for, 1 to [`MAX_LIMIT`].
pub fn limit(text: Option<&str>, default: usize) -> Result<usize, Problem> {
    let Some(text) = text else { return Ok(default) };
    let number = text.parse().ok().filter(|number| (1..=MAX_LIMIT).contains(number));
    number.ok_or_else(|| invalid("limit", text, "a whole number from 1 to 10000"))
}

/// The address in a path. IPv4-mapped IPv6 is IPv4.
pub fn address(text: &str) -> Result<IpAddr, Problem> {
    text.parse::<IpAddr>().map(|address| address.to_canonical()).map_err(|_| {
        let detail = format!("{} is neither an IPv4 nor an IPv6 address.", quoted(text));
        Problem::new(Code::InvalidAddress, detail)
    })
}

/// The problem of a parameter whose value is not what it must be.
pub fn invalid(parameter: &str, value: &str, expected: &str) -> Problem {
    let detail = format!("{parameter} is {}; it must be {expected}.", quoted(value));
    Problem::new(Code::InvalidParameter, detail)
}

/// Text of a caller on its way back: short, in quotes, without control characters.
fn quoted(text: &str) -> String {
    let short: String = text.chars().take(60).map(|letter| if letter.is_control() { '?' } else { letter }).collect();
    let dots = if text.chars().nth(60).is_some() { "..." } else { "" };
    format!("\"{short}{dots}\"")
}

/// The one of `names` that `word` most likely meant.
fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    names
        .map(|name| (strsim::jaro_winkler(&word, name), name))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, name)| name)
}

/// The query parameters of a request, after every name was found to be one the route has.
#[derive(Debug)]
pub struct Asked<T>(pub T);

/// One struct of parameters, or several that a route has together.
pub trait Parameters: Sized {
    /// The names of all of them, in the order of the documentation.
    fn names() -> Vec<String>;

    /// Their values in `query`, the part of a URL after the question mark.
    fn read(query: &str) -> Result<Self, Problem>;
}

fn names_of<T: IntoParams>() -> impl Iterator<Item = String> {
    T::into_params(|| Some(ParameterIn::Query)).into_iter().map(|parameter| parameter.name)
}

fn read_one<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    // All members are optional text, so this cannot fail once names are known and stand once.
    actix_web::web::Query::<T>::from_query(query)
        .map(actix_web::web::Query::into_inner)
        .map_err(|error| Problem::new(Code::BadRequest, format!("The query cannot be read: {error}.")))
}

macro_rules! parameters_together {
    ($($part:ident)+) => {
        impl<$($part: DeserializeOwned + IntoParams),+> Parameters for ($($part,)+) {
            fn names() -> Vec<String> {
                let mut names = Vec::new();
                $(names.extend(names_of::<$part>());)+
                names
            }

            fn read(query: &str) -> Result<Self, Problem> {
                Ok(($(read_one::<$part>(query)?,)+))
            }
        }
    };
}
parameters_together!(A);
parameters_together!(A B);
parameters_together!(A B C);
parameters_together!(A B C D);
parameters_together!(A B C D E);

impl Parameters for () {
    fn names() -> Vec<String> {
        Vec::new()
    }

    fn read(_query: &str) -> Result<Self, Problem> {
        Ok(())
    }
}

impl<T: Parameters> Asked<T> {
    /// Reads `query` and refuses names that the route does not have or that stand twice.
    fn from_query(query: &str) -> Result<Self, Problem> {
        let known = T::names();
        let pairs = actix_web::web::Query::<Vec<(String, String)>>::from_query(query)
            .map_err(|error| Problem::new(Code::BadRequest, format!("The query cannot be read: {error}.")))?;
        let mut seen: Vec<&str> = Vec::new();
        for (name, _) in pairs.iter() {
            if !known.contains(name) {
                let hint = match nearest(name, known.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean {near}?"),
                    None if known.is_empty() => "it takes none.".to_owned(),
                    None => format!("it takes {}.", known.join(", ")),
                };
                let detail = format!("This resource has no parameter {}; {hint}", quoted(name));
                return Err(Problem::new(Code::UnknownParameter, detail));
            }
            if seen.contains(&name.as_str()) {
                let detail = format!("The parameter {name} stands twice; give it once.");
                return Err(Problem::new(Code::RepeatedParameter, detail));
            }
            seen.push(name);
        }
        T::read(query).map(Self)
    }
}

impl<T: Parameters> FromRequest for Asked<T> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _body: &mut Payload) -> Self::Future {
        ready(Self::from_query(request.query_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<T: Parameters + std::fmt::Debug>(query: &str) -> Problem {
        Asked::<T>::from_query(query).unwrap_err()
    }

    #[test]
    fn an_unknown_parameter_is_refused_with_the_nearest_known_one() {
        let problem = refused::<(WindowParams, RankParams)>("last=1h&filtr=any");
        assert_eq!(problem.code, Code::UnknownParameter);
        assert!(problem.detail.ends_with("\"filtr\"; did you mean filter?"), "{}", problem.detail);
        let problem = refused::<(WindowParams,)>("zzz=1");
        assert!(problem.detail.ends_with("it takes from, to, last, week, tz."), "{}", problem.detail);
        assert!(refused::<()>("x=1").detail.ends_with("it takes none."));
    }

    #[test]
    fn a_parameter_may_stand_once() {
        assert_eq!(refused::<(WindowParams,)>("last=1h&last=2h").code, Code::RepeatedParameter);
    }

    #[test]
    fn an_offset_survives_a_plus_that_was_not_escaped() {
        assert_eq!(restore_plus("2026-11-16T08:00:00 01:00"), "2026-11-16T08:00:00+01:00");
        assert_eq!(restore_plus("2026-11-16 08:00"), "2026-11-16 08:00");
        assert_eq!(restore_plus("2026-11-16"), "2026-11-16");
    }

    #[test]
    fn dimensions_are_read_by_both_names_and_refused_with_a_hint() {
        let by = |text: &str| ByParams { by: Some(text.to_owned()) }.dimensions();
        let names = |text: &str| by(text).unwrap().into_iter().map(Dimension::name).collect::<Vec<_>>();
        assert_eq!(names("srcip, DSTPORT"), ["src_ip", "dst_port"]);
        assert_eq!(names("ip,proto"), ["ip", "protocol"]);
        assert_eq!(ByParams::default().dimensions().unwrap().len(), 1);
        let problem = by("dts_ip").unwrap_err();
        assert_eq!(problem.code, Code::InvalidField);
        assert!(problem.detail.ends_with("\"dts_ip\"; did you mean dst_ip?"), "{}", problem.detail);
        for wrong in ["", "dst_ip,", "dst_ip,dstip", "ip,port", "src_ip,dst_ip,src_port,dst_port,protocol"] {
            assert!(by(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn limits_orders_and_addresses_have_their_ranges() {
        assert_eq!(limit(None, 10), Ok(10));
        assert_eq!(limit(Some("10000"), 10), Ok(10_000));
        for wrong in ["0", "10001", "-1", "ten", "1.5", "", "99999999999999999999999"] {
            assert_eq!(limit(Some(wrong), 10).unwrap_err().code, Code::InvalidParameter, "{wrong}");
        }
        let order = |text: &str| RankParams { order: Some(text.to_owned()), ..RankParams::default() }.order();
        assert_eq!(order("packets"), Ok(Order::Packets));
        assert_eq!(order("size").unwrap_err().code, Code::InvalidParameter);
        let counters =
            |text: &str| CounterParams { counters: Some(text.to_owned()), ..CounterParams::default() }.counters();
        assert_eq!((counters("raw"), CounterParams::default().counters()), (Ok(Counters::Raw), Ok(Counters::Scaled)));
        assert_eq!(counters("exact").unwrap_err().code, Code::InvalidParameter);
        assert_eq!(address("::ffff:10.0.0.1"), Ok(IpAddr::from([10, 0, 0, 1])));
        assert_eq!(address("10.0.0.256").unwrap_err().code, Code::InvalidAddress);
    }

    #[test]
    fn what_a_caller_wrote_comes_back_short_and_harmless() {
        assert_eq!(quoted("a\nb"), "\"a?b\"");
        assert_eq!(quoted(&"x".repeat(100)).len(), 65);
    }
}
