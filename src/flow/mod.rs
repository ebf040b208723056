//! The model: what a flow is made of, before anything is decoded, stored or asked.
//!
//! [`fields`] is the one catalogue of a flow's fields, [`batch`] holds flows as columns in memory, [`record`] is one flow on
//! its way there, [`segment`] is a batch as the database keeps it, [`value`] is one value on its way to a reader, [`facts`] is
//! what exporters tell beside flows, [`parked`] is data that waits for its template, [`host_traffic`] the sums kept of local
//! hosts, [`counting`] which flows are left out of sums, [`double_counting`] what two observation points told alike, [`local`]
//! knows the networks of the house, [`sampling`] what sampled counters mean, [`names`] IANA's protocol names. Nothing here does
//! I/O, reads a clock or knows a wire format.

pub mod batch;
pub mod counting;
pub mod double_counting;
pub mod facts;
pub mod fields;
pub mod host_traffic;
pub mod local;
pub mod names;
pub mod parked;
pub mod record;
pub mod sampling;
pub mod segment;
pub mod value;
