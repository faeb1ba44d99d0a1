package limits

// The v2 API.
const (
	V2HistoryEvents = 1000                  // events kept for watchers that start in the past, of all namespaces (etcd's number)
	V2WatcherEvents = 2 * ApplyBatchEntries // events that wait for one stream before it is closed: those of a batch come at once, and some twice
	V2PathBytes     = 16 << 10              // a path, bytes
	V2PathDepth     = 256                   // components of a path; all directories of one may have to be made by one request
)
