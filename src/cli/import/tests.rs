//! What the import shows.

use super::progress::line;
use std::time::Duration;

#[test]
fn the_line_tells_how_much_is_done_how_fast_and_how_long_it_will_take() {
    let half = line(500, 1_000, 3_000_000, Duration::from_secs(2));
    assert_eq!(half, "[############............] 50 %  3000000 flows, 1500000 a second, 0:00:02 left");
    assert!(line(0, 1_000, 0, Duration::ZERO).ends_with("? left"));
    assert!(line(0, 0, 0, Duration::ZERO).starts_with("[########################] 100 %"));
    assert!(line(u64::MAX, 1, u64::MAX, Duration::MAX).contains("100 %"));
}
