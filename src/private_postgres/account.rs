//! Whom PostgreSQL runs as: ourselves, or, because PostgreSQL refuses to run as root, an unprivileged system user.
//!
//! Promises that the account has a name (PostgreSQL's `peer` check and `initdb` need one). Knows nothing of clusters.

#![allow(unsafe_code)]

use super::error::PrivatePostgresError;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::raw::{c_char, c_int};
use std::ptr;

/// The system users tried, in this order, when we are root.
const SERVICE_USERS: [&str; 2] = ["flowledger", "postgres"];
/// Largest passwd entry accepted; real ones are below 1 KiB.
const PASSWD_ENTRY_BYTES: usize = 64 * 1024;

/// A user of the operating system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    /// Name in the user database.
    pub(super) name: String,
    /// Numeric user id.
    pub(super) uid: u32,
    /// Numeric id of the primary group.
    pub(super) gid: u32,
}

/// Who we are and whom the server runs as.
#[derive(Clone, Debug)]
pub(super) struct Account {
    /// The user the server's processes run as and who owns the cluster.
    pub(super) server: User,
    /// The user this process runs as.
    pub(super) ours: User,
}

impl Account {
    /// Decides whom the server runs as.
    pub(super) fn choose() -> Result<Self, PrivatePostgresError> {
        let uid = our_uid();
        let ours = by_uid(uid).ok_or_else(|| PrivatePostgresError::Account {
            reason: format!(
                "the user id {uid} that Flowledger runs as has no name in the user database (/etc/passwd), and PostgreSQL \
                 insists on one. Add an entry for it, or use a running server with [database] url"
            ),
        })?;
        if uid != 0 {
            return Ok(Self { server: ours.clone(), ours });
        }
        let server =
            SERVICE_USERS.iter().find_map(|name| by_name(name)).filter(|user| user.uid != 0).ok_or_else(|| {
                PrivatePostgresError::Account {
                    reason:
                        "PostgreSQL refuses to run as root, and neither of the system users flowledger and postgres \
                         exists. Create one: useradd --system --no-create-home --shell /usr/sbin/nologin flowledger"
                            .to_owned(),
                }
            })?;
        Ok(Self { server, ours })
    }

    /// Whether the server's processes must change to another user than ours.
    pub(super) fn switches(&self) -> bool {
        self.server.uid != self.ours.uid
    }
}

/// The user id that this process runs as.
pub(super) fn our_uid() -> u32 {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() }
}

fn by_name(name: &str) -> Option<User> {
    let name = CString::new(name).ok()?;
    lookup(|entry, buffer, length, found| {
        // SAFETY: `name` ends in NUL and outlives the call; the other four come from `lookup`, which keeps them valid.
        unsafe { libc::getpwnam_r(name.as_ptr(), entry, buffer, length, found) }
    })
}

fn by_uid(uid: u32) -> Option<User> {
    lookup(|entry, buffer, length, found| {
        // SAFETY: all four pointers come from `lookup`, which keeps them valid during the call.
        unsafe { libc::getpwuid_r(uid, entry, buffer, length, found) }
    })
}

fn lookup(call: impl FnOnce(*mut libc::passwd, *mut c_char, usize, *mut *mut libc::passwd) -> c_int) -> Option<User> {
    let mut entry = MaybeUninit::<libc::passwd>::uninit();
    let mut buffer = vec![0 as c_char; PASSWD_ENTRY_BYTES];
    let mut found = ptr::null_mut();
    let status = call(entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &raw mut found);
    if status != 0 || found.is_null() {
        return None;
    }
    // SAFETY: the call succeeded and set `found`, so it filled `entry`, whose name points into `buffer` and ends in NUL.
    let (name, uid, gid) = unsafe {
        let entry = entry.assume_init_ref();
        (CStr::from_ptr(entry.pw_name).to_str().ok()?.to_owned(), entry.pw_uid, entry.pw_gid)
    };
    Some(User { name, uid, gid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_by_number_alike() {
        let root = User { name: "root".to_owned(), uid: 0, gid: 0 };
        assert_eq!(by_name("root"), Some(root.clone()));
        assert_eq!(by_uid(0), Some(root));
        assert_eq!(by_name("no-such-user-anywhere"), None);
    }

    #[test]
    fn the_server_never_runs_as_root() {
        let account = Account::choose().unwrap();
        assert_ne!(account.server.uid, 0);
        assert_eq!(account.switches(), account.ours.uid == 0);
    }
}
