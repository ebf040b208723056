//! The integration tests: one program, so that it is linked once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may stop at the first surprise"
)]

/// A server that starts while its database is not there.
mod absent;
/// Sockets that a service manager holds while the server is down.
mod activation;
/// sFlow agents behind a relay are exporters each.
mod agents;
/// A clock that jumps.
mod clocks;
/// Commands whose output nobody reads to its end.
mod closed_output;
/// A COMMIT that hangs: half done, slow, or with all of PostgreSQL frozen.
mod commit_faults;
/// Batches are loaded beside each other and stored in their turn, each once.
mod commits;
/// What the worst datagrams cost.
mod cost;
/// Rules of counting: what is exported twice is in sums once.
mod counting;
/// Locks, other schemas and roles without rights, two servers: what the database of a server at work can meet.
mod database_faults;
/// Connections to the database whose other end is gone without a word.
mod dead_connections;
/// The self-check sees every difference that is planted.
mod doctor;
/// Flows that are told twice, from the datagram to the advice.
mod double_counting;
/// Imported days that are dropped, imports around the first start: what is there is answered, what is gone is told.
mod dropped;
/// What ends, ends whole, with what is to outlive it counted.
mod expiry;
/// Flows as files: the same sums, whole or not there, in flat memory.
mod export;
/// What exporters tell about themselves and what the configuration says about them: kept, limited, shown.
mod exporters;
/// A server at work, whose database is about to meet a fault, and what must hold after it.
mod faults;
/// The main job from the first datagram to the answer, on an empty machine.
mod first_answer;
/// A flush that fails: what is said, and what is not believed.
mod flush;
/// Datagrams above the MTU, and lost fragments of them.
mod fragments;
/// The disk of the database full.
mod full_database;
/// A journal that is full, or whose disk refuses or cuts what is written.
mod full_disk;
/// No file handles left.
mod handles;
/// Totals of hosts give the answers that flows give.
mod host_totals;
/// Exporters that lie and strangers that flood, against a whole server.
mod hostile;
/// Files of nfdump and captures: the same numbers as `nfdump`, once, through `kill -9`.
mod import;
/// Files that come again, longer or for another port: each flow once.
mod import_again;
/// `kill -9` of the server and of PostgreSQL: stored equals journalled, nothing twice.
mod kills;
/// The three founding questions against real exporters, `nfcapd` and `nfdump`.
mod nfdump;
/// The database away under load: what is told, what memory it takes, how fast it is caught up with.
mod outage;
/// A receive buffer that overflows.
mod overflow;
/// A defect in a thread: never half alive.
mod panics;
/// The engine over a real database: workers, budgets, dropped queries.
mod queries;
/// Each period of a report once: asleep, beside other servers, with the mail server away.
mod reports;
/// How soon a restarted server is at work, and journals of other versions.
mod restarts;
/// Days that go when the database takes too much.
mod retention;
/// Rounds of upkeep: what is left alone, what is not forgotten, what is told in time.
mod rounds;
/// SQL over `flows` and the API give equal answers.
mod rows_equal_answers;
/// Sampled exporters, from the datagram to the answer.
mod sampled;
/// Hours that are over become large segments and totals of hosts, and nothing changes by it.
mod seal;
/// The inputs of the fuzz targets.
mod seeds;
/// What an answer may be missing: from the datagram to the stamp.
mod stamps;
/// A process that stands still, and a database that is set back.
mod standstill;
/// Stopping in order, under load.
mod stops;
/// IPFIX over TCP and TLS, from our own exporter and from a real one, and who may send.
mod streams;
mod support;
/// `kill -9` at the first calls of each kind that touch the journal or the database.
mod sweep;
/// Days made and dropped beside readers.
mod upkeep;
/// Data before its template.
mod waiting;
/// Late weeks, sealed and interrupted: totals, segments and SQL agree.
mod weeks;
/// Times in imported files that no clock shows.
mod wild_times;
