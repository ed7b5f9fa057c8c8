//! The heap, as far as the C library lets one ask for more than blocks.

/// Bytes of a block that gets pages of its own, and of free heap beyond which its end is given back: what glibc starts with.
#[cfg(target_env = "gnu")]
const THRESHOLD: libc::c_int = 128 * 1024;

/// Keeps glibc from raising its thresholds (`mallopt(3)`), as it does when a large block is freed: once the status of a large
/// mesh was told, tens of free megabytes would count as too little to be given back.
pub(crate) fn keep_small() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer, and is called before there are threads.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, THRESHOLD);
        libc::mallopt(libc::M_TRIM_THRESHOLD, THRESHOLD);
    }
}

/// Gives every page without a block in use back to the system (`malloc_trim(3)`). Without it the heap stays as large as it
/// ever was: a mesh file of ten thousand endpoints takes tens of megabytes while it is parsed. Does nothing where the C
/// library is not glibc.
pub(crate) fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer, and locks each arena that it walks.
    unsafe {
        libc::malloc_trim(0);
    }
}
