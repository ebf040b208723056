//! Memory in large pages, for arrays that are read and written all over.
//!
//! A table of a million groups spans ten thousand pages of 4 KiB, more than the processor remembers the places of, so that
//! nearly every look-up first waits for the page's place. In pages of 2 MiB it does not (measured: 1.6 times as many flows
//! a second for half a million groups). The kernel is asked for them and may refuse; then memory is as it always was.
//! This is the only unsafe code of the queries. It knows nothing of what the memory is for.
#![expect(unsafe_code, reason = "madvise has no safe wrapper here")]

/// Below this many bytes ordinary pages are enough.
const LARGE_BYTES: usize = 4 << 20;
/// Advice begins and ends at the borders of ordinary pages.
const PAGE_BYTES: usize = 4_096;

/// An empty vector with room for `capacity` values, in large pages where that is much memory.
pub fn vec_with_capacity<T>(capacity: usize) -> Vec<T> {
    let vec = Vec::<T>::with_capacity(capacity);
    let bytes = vec.capacity().saturating_mul(size_of::<T>());
    let start = (vec.as_ptr() as usize).next_multiple_of(PAGE_BYTES);
    let end = (vec.as_ptr() as usize).saturating_add(bytes) & !(PAGE_BYTES - 1);
    if bytes >= LARGE_BYTES && end > start {
        // SAFETY: the whole range lies in the vector's own allocation, which stays where it is for the call. The advice
        // changes by what pages the kernel backs the range and never what it contains. What it answers does not matter.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_HUGEPAGE) };
    }
    vec
}

/// Makes `vec` as long as `length`, with `value` in the new places, in large pages where that is much memory.
pub fn grow<T: Copy>(vec: &mut Vec<T>, length: usize, value: T) {
    if length > vec.capacity() {
        let mut larger = vec_with_capacity(length.max(vec.capacity().saturating_mul(2)));
        larger.extend_from_slice(vec);
        *vec = larger;
    }
    if length > vec.len() {
        vec.resize(length, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grown_vector_holds_what_it_held_and_the_value_behind_it() {
        let mut vec = vec![7u64; 3];
        for length in [4, 1_000, 999, 3_000_000] {
            let before = vec.len();
            grow(&mut vec, length, 9);
            assert_eq!(vec.len(), length.max(before));
        }
        assert!(vec[..3].iter().all(|value| *value == 7) && vec[3..].iter().all(|value| *value == 9));
        let (large, small) = (vec_with_capacity::<u64>(1 << 20), vec_with_capacity::<u64>(3));
        assert!(large.capacity() >= 1 << 20 && small.capacity() >= 3);
    }
}
