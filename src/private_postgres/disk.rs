//! How large the disk is that a directory lies on.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes of the file system that `directory` lies on, or the nearest of its ancestors that is there; `None` when the system
/// does not tell.
pub fn disk_bytes(directory: &Path) -> Option<u64> {
    let present = directory.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("."));
    let path = CString::new(present.as_os_str().as_bytes()).ok()?;
    let mut told = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `path` ends in NUL and outlives the call, and `told` has room for what the call writes.
    if unsafe { libc::statvfs(path.as_ptr(), told.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: the call succeeded, so it has written all of it.
    let told = unsafe { told.assume_init() };
    Some(told.f_frsize.saturating_mul(told.f_blocks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_not_there_yet_lies_on_the_disk_of_its_ancestors() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = disk_bytes(folder.path()).unwrap();
        assert!(bytes > 1 << 20, "{bytes}");
        assert_eq!(disk_bytes(&folder.path().join("not/there")), Some(bytes));
    }
}
