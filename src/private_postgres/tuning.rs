//! The settings the server is started with: sized by the machine's memory, and safe against power cuts.
//!
//! Promises that a cluster of ours keeps what it confirmed (`fsync`, `full_page_writes`, `synchronous_commit` are on).
//! Settings given here go before those in the cluster's own files; everything not named here may be set in those. Knows
//! neither processes nor directories.

use super::Durability;
use std::fs;

const MEBIBYTE: u64 = 1024 * 1024;
/// About the most that PostgreSQL's log takes beside the database, in bytes.
pub const MOST_LOG_BYTES: u64 = 4096 * MEBIBYTE;
/// Assumed where the machine does not tell its memory.
const FALLBACK_MEMORY: u64 = 1024 * MEBIBYTE;

/// Bytes of memory this process may count on: the machine's, or its control group's limit where that is less.
pub(super) fn machine_memory() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_memory(&text));
    let group = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse::<u64>().ok());
    [machine, group].into_iter().flatten().min().unwrap_or(FALLBACK_MEMORY)
}

fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The `name=value` settings for a machine with `memory` bytes.
pub(super) fn settings(memory: u64, durability: Durability) -> Vec<String> {
    let megabytes = |bytes: u64| format!("{}MB", bytes / MEBIBYTE);
    let mut settings: Vec<String> = [
        // Connections: one server process, its pools, and a few people with psql.
        "max_connections=40",
        "checkpoint_timeout=15min",
        // A new file of the log is not filled with zeros before it is filled with the log: on ext4 and XFS that only writes
        // everything twice (docs/decisions/0007).
        "wal_init_zero=off",
        // Nobody streams from a private server, so the log need only serve recovery.
        "wal_level=minimal",
        "max_wal_senders=0",
        "autovacuum=on",
        "jit=off",
        "timezone=UTC",
        "log_timezone=UTC",
        "log_destination=stderr",
        "logging_collector=off",
        "log_line_prefix=%m [%p] ",
        "ssl=off",
    ]
    .map(str::to_owned)
    .to_vec();
    // A flow is written once and read in order, so rare checkpoints save most full-page images. Recovery after a crash
    // replays at most this much.
    settings.push(format!("max_wal_size={}", megabytes(MOST_LOG_BYTES)));
    let shared_buffers = match durability {
        Durability::Full => (memory / 8).clamp(128 * MEBIBYTE, 2048 * MEBIBYTE),
        Durability::Throwaway => 64 * MEBIBYTE,
    };
    settings.push(format!("shared_buffers={}", megabytes(shared_buffers)));
    settings.push(format!("effective_cache_size={}", megabytes((memory / 2).max(shared_buffers))));
    settings.push(format!("maintenance_work_mem={}", megabytes((memory / 32).clamp(64 * MEBIBYTE, 512 * MEBIBYTE))));
    let kept = match durability {
        Durability::Full => "on",
        Durability::Throwaway => "off",
    };
    // Commits are written out in any case: those left in shared memory would not outlive a kill of the server.
    settings.push("synchronous_commit=on".to_owned());
    for name in ["fsync", "full_page_writes"] {
        settings.push(format!("{name}={kept}"));
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_and_divided_within_bounds() {
        assert_eq!(total_memory("MemFree: 1 kB\nMemTotal:       24603648 kB\n"), Some(24_603_648 * 1024));
        assert_eq!(total_memory("nothing"), None);
        let buffers = |mebibytes: u64| {
            let settings = settings(mebibytes * MEBIBYTE, Durability::Full);
            settings.into_iter().find_map(|setting| setting.strip_prefix("shared_buffers=").map(str::to_owned)).unwrap()
        };
        assert_eq!(buffers(512), "128MB");
        assert_eq!(buffers(8192), "1024MB");
        assert_eq!(buffers(262_144), "2048MB");
    }

    #[test]
    fn what_is_confirmed_is_kept_unless_the_cluster_is_throwaway() {
        for name in ["fsync", "full_page_writes"] {
            assert!(settings(FALLBACK_MEMORY, Durability::Full).contains(&format!("{name}=on")));
            assert!(settings(FALLBACK_MEMORY, Durability::Throwaway).contains(&format!("{name}=off")));
        }
    }
}
