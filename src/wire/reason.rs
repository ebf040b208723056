//! Why a datagram, a set, a record, a template or a field was not taken as sent, and how often.
//!
//! Promises: everything the decoder does not keep ends in exactly one [`Reason`]; a reason counts in one [`Unit`]. Those
//! that are [`Reason::kept`] only tell of something odd, and what is counted was stored all the same. Reasons of the
//! socket and of the journal belong to their owners.

/// What a reason counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Whole datagrams.
    Datagrams,
    /// Sets (NetFlow v9: FlowSets; sFlow: samples) of a datagram that was otherwise read. How many records a rejected set
    /// held is unknown.
    Sets,
    /// Definitions of templates.
    Templates,
    /// Flow records.
    Records,
    /// Values of one field in one record.
    Fields,
}

impl Unit {
    /// The name in metrics and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Datagrams => "datagrams",
            Self::Sets => "sets",
            Self::Templates => "templates",
            Self::Records => "records",
            Self::Fields => "fields",
        }
    }
}

macro_rules! reasons {
    ($($variant:ident $name:literal $unit:ident $kept:literal $description:literal;)+) => {
        /// Why something on the wire was not taken as it was sent.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Reason { $(#[doc = $description] $variant),+ }

        /// How many reasons there are.
        pub const REASON_COUNT: usize = [$(Reason::$variant),+].len();

        impl Reason {
            /// All reasons.
            pub const ALL: [Self; REASON_COUNT] = [$(Self::$variant),+];

            /// The reason's name in metrics and in `/api/v1/exporters`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// What is counted under this reason.
            pub const fn unit(self) -> Unit {
                match self { $(Self::$variant => Unit::$unit),+ }
            }

            /// Whether what is counted was stored all the same, or was nothing to store.
            pub const fn kept(self) -> bool {
                match self { $(Self::$variant => $kept),+ }
            }

            /// One sentence for people.
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => $description),+ }
            }
        }
    };
}

reasons! {
    TooShort "too_short" Datagrams false "The datagram is shorter than the header of its version.";
    UnknownVersion "unknown_version" Datagrams false "The datagram is not NetFlow v1, v5, v7 or v9, IPFIX or sFlow version 5.";
    LengthMismatch "length_mismatch" Datagrams false "The length in the IPFIX header is not the datagram's (RFC 7011, 9.1).";
    CountLie "count_lie" Datagrams false "The record count of NetFlow v1, v5 or v7 is 0, in v5 more than 30, or not the datagram's length.";
    Duplicate "duplicate" Datagrams false "The same datagram came among the 64 before it.";
    SessionLimit "session_limit" Datagrams false "Too many sessions are remembered to begin another one.";
    SetLength "set_length" Sets false "A set or sFlow sample is shorter than its own header; what follows it cannot be found.";
    SetOverrun "set_overrun" Sets false "A set runs past the datagram, or its first record past the set; or an sFlow sample or one of its records does.";
    SetReserved "set_reserved" Sets false "A set has an identifier that means nothing in its version, or an sFlow sample a format that is not read.";
    NoTemplate "no_template" Sets false "The template of a data set did not come in time, or there was no room for the set to wait.";
    Parked "parked" Sets false "A data set waits for its template; it is taken back when the template comes.";
    VarlenOverrun "varlen_overrun" Sets false "A variable-length field runs past its set; the rest of the set is dropped.";
    TemplateInvalid "template_invalid" Templates false "A template is cut short, or has an identifier or a length that is not allowed.";
    TemplateZero "template_zero" Templates false "A template describes records without a single byte.";
    TemplateLimit "template_limit" Templates false "A template has too many fields, or too many templates are remembered.";
    OutputLimit "output_limit" Records false "The datagram holds more records than one datagram may.";
    Withdrawal "withdrawal" Templates true "A template withdrawal; over UDP it is ignored (RFC 7011, 8.4).";
    TemplateChanged "template_changed" Templates true "A template was replaced by one of another layout.";
    CountDiffers "count_differs" Datagrams true "The NetFlow v9 record count or sFlow sample count is not the number of records or samples in the datagram.";
    Suspect "suspect" Sets true "Bytes that are not zero follow the last record of a set or sFlow sample: perhaps its template is out of date.";
    TimeFixed "time_fixed" Records true "A flow's start or end was not plausible and was replaced.";
    RateLimited "rate_limited" Datagrams false "The exporter sent nothing but malformed datagrams for a while, and is only looked at now and then.";
    TextFixed "text_fixed" Fields true "A text held bytes that are not UTF-8, or control characters, and was cleaned.";
    FactLimit "fact_limit" Fields true "A fact about an exporter was left out, because too many came between two commits.";
    FieldWidth "field_width" Fields true "A known field, a packet in a record, or a known record of an sFlow sample, has a width that it cannot have, or a value that there is no room for, and was left unset.";
}

/// How often each reason occurred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts([u32; REASON_COUNT]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; REASON_COUNT])
    }
}

impl Counts {
    /// Counts `reason` `times` more.
    pub(super) fn add(&mut self, reason: Reason, times: usize) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count = count.saturating_add(u32::try_from(times).unwrap_or(u32::MAX));
        }
    }

    /// How often `reason` occurred, in its unit.
    pub fn get(&self, reason: Reason) -> u32 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }

    /// The reasons that occurred, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u32)> {
        Reason::ALL.into_iter().zip(self.0).filter(|&(_, count)| count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_counts_are_kept_apart() {
        let names: HashSet<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), REASON_COUNT);
        let mut counts = Counts::default();
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            assert!(reason.description().ends_with('.'));
            counts.add(reason, index);
        }
        assert_eq!(counts.get(Reason::NoTemplate), Reason::NoTemplate as u32);
        assert_eq!(counts.iter().count(), REASON_COUNT - 1);
    }
}
