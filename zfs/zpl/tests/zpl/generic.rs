//! The generic checks of file systems, on datasets.
use crate::pools;
#[test]
fn keeps_the_promises_of_a_file_system() {
    vfs::test_support::check_filesystem(pools::fresh);
}
