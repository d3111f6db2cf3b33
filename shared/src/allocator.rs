//! One allocator for every program. The system's keeps what large buffers leave behind in an arena for each thread: sixty
//! logins at once, 19 MiB of Argon2 each, left an API at 600 MB; decoded photos do the same to a worker.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
