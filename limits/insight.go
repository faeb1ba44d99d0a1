package limits

import "time"

// What operators look at: see package insight.
const (
	TopLooks           = 4               // looks at once; each takes at most some 1.5 MB
	TopCallsPerSecond  = 20_000          // calls recorded while somebody looks; of more, some are chosen by chance
	TopSeconds         = 30              // of one look, seconds
	TopMethods         = 64              // names that are told apart in one look
	TopClients         = 256             // addresses and users
	TopPrefixes        = 512             // pairs of method and prefix
	TopKeys            = 1024            // keys
	TopKeyBytes        = 256             // of a key that are kept
	TopBarePrefixBytes = 16              // the prefix of a key without a '/'
	TopDepth           = 8               // parts of a key in a prefix
	TopRows            = 50              // of each kind that are answered
	TopWatchers        = 50              // watchers farthest behind that are answered
	TopStreams         = 10_000          // watch streams, and watchers behind, that are looked at
	SizeEvery          = 5 * time.Minute // between two sizes of the store that are remembered
	Sizes              = 12 * 24         // of these
)
