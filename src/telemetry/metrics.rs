//! All counters of the process: one struct, shared by `Arc`.

use super::{Counter, Gauge, KernelRequests, StoreRequests};

/// Everything that `strongroom status` counts. Field names are the stable JSON keys.
#[derive(Debug, Default)]
pub struct Metrics {
    /// GET requests sent to the store.
    pub get_requests: Counter,
    /// PUT requests (single objects) sent to the store.
    pub put_requests: Counter,
    /// UploadPart requests sent to the store.
    pub part_requests: Counter,
    /// Multipart create, complete, abort and list requests.
    pub multipart_requests: Counter,
    /// HEAD requests.
    pub head_requests: Counter,
    /// LIST requests.
    pub list_requests: Counter,
    /// DELETE requests, single and batched.
    pub delete_requests: Counter,
    /// Requests sent again after a failure.
    pub retries: Counter,
    /// Requests that failed for good.
    pub store_errors: Counter,
    /// Body bytes received from the store.
    pub received_bytes: Counter,
    /// Body bytes sent to the store.
    pub sent_bytes: Counter,
    /// The same without what a repeated request sends again. Only the drain's progress shows it.
    pub passed_bytes: Counter,
    /// Requests waiting for the store's answer, or streaming a body, now.
    pub requests_in_flight: Gauge,
    /// Bodies being downloaded now.
    pub downloads_in_flight: Gauge,
    /// Parts and objects being uploaded now.
    pub uploads_in_flight: Gauge,
    /// Frames found in the cache.
    pub cache_hits: Counter,
    /// Frames that had to be fetched for a reader that waited.
    pub cache_misses: Counter,
    /// Frames fetched ahead of a reader.
    pub readahead_frames: Counter,
    /// Bytes that the kernel's page cache was given unasked.
    pub page_fill_bytes: Counter,
    /// Frames or headers that failed authentication. An object that is missing is none of them.
    pub authentication_failures: Counter,
    /// Objects that should be in the store and were not when they were read, each counted once.
    pub missing_objects: Counter,
    /// Times that tiny pieces of a file were not put together, because the bytes between them could
    /// not be read.
    pub unread_gaps: Counter,
    /// Bytes of scattered files that were read to be put in order.
    pub defragmented_bytes: Counter,
    /// Bytes that were read out of objects which are mostly dead, to be put into new ones.
    pub repacked_bytes: Counter,
    /// Slices of files written at random that were sent because memory ran short.
    pub sent_slices: Counter,
    /// Attempts of requests to the store by operation and outcome. Only metrics report them.
    pub store_requests: StoreRequests,
    /// Requests from the kernel. Reported apart from the others.
    pub kernel_requests: KernelRequests,
    /// Bytes that programs read.
    pub fuse_read_bytes: Counter,
    /// Bytes that programs wrote.
    pub fuse_written_bytes: Counter,
    /// Kernel requests answered with an error other than ENOENT, ENODATA and the like.
    pub fuse_errors: Counter,
    /// Open file and directory handles.
    pub open_handles: Gauge,
}
