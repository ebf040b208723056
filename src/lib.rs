//! Flowledger: routers export flows to it, PostgreSQL keeps every flow, an API and reports tell who used the network.
//!
//! The modules are floors of a house, listed here from the ground up. A module imports only from lower floors, and two
//! modules on one floor never import each other: they meet through channels that [`server`] wires. `tests/floors.rs`
//! enforces this; ARCHITECTURE.md gives the reasons and follows a flow and a query through the house.

// Floor 0: ground.
pub mod clock;
pub mod metrics;
pub mod pages;

// Floor 1: the model with its field catalogue, and tools that know nothing of flows.
pub mod flow;
pub mod journal;
pub mod private_postgres;

// Floor 2: translations. Datagram to flows, files of other collectors to flows, text to selection, batch to bytes, rows to
// PostgreSQL.
pub mod archive;
pub mod columns;
pub mod filter;
pub mod store;
pub mod wire;

// Floor 3: the four workers.
pub mod collect;
pub mod ingest;
pub mod keep;
pub mod query;

// Floor 4: what is told, when and to whom.
pub mod reports;

// Floor 5: HTTP, and flows as files.
pub mod api;
pub mod export;

// Floor 6: joins the parts; nothing imports it.
pub mod cli;
pub mod config;
pub mod server;
pub mod telemetry;
