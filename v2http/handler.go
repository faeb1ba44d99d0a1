package v2http

import (
	"errors"
	"io"
	"net/http"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/internal/clock"
)

// The paths of the API.
const (
	pathKeys     = "/v2/keys"
	pathMembers  = "/v2/members"
	pathMachines = "/v2/machines"
	pathStats    = "/v2/stats/"
	pathAuth     = "/v2/auth"
)

// Headers and types of answers.
const (
	headerCluster = "X-Etcd-Cluster-Id"
	headerIndex   = "X-Etcd-Index"
	headerCommit  = "X-Raft-Index"
	headerTerm    = "X-Raft-Term"
	contentType   = "Content-Type"
	typeJSON      = "application/json"
)

// Config is what New needs.
type Config struct {
	Backend      Backend
	Passwords    Passwords     // of v2's users
	Certificates bool          // the name in a client's certificate counts (--client-cert-auth)
	Timeout      time.Duration // of one request, but for the wait of a watch
	RequestBytes int           // the largest value of a key, about (--max-request-bytes)
	Clock        clock.Clock   // nil: the machine's clock
	Logger       *zap.Logger
}

// handler serves the API.
type handler struct {
	cfg  Config
	auth authStore

	reads, misses atomic.Uint64 // plain reads of the tree, which do not go through the log: those that found something, and the others
}

// New makes the handler of everything under /v2/.
func New(cfg Config) http.Handler {
	if cfg.Clock == nil {
		cfg.Clock = clock.Real()
	}
	h := &handler{cfg: cfg}
	h.auth.h = h
	return h
}

// ServeHTTP implements http.Handler. Paths are cleaned by a redirect, as etcd's router does it.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p := cleanPath(r.URL.Path); p != r.URL.Path {
		to := *r.URL
		to.Path, to.RawPath = p, ""
		http.Redirect(w, r, to.String(), http.StatusMovedPermanently)
		return
	}
	switch p := r.URL.Path; {
	case p == pathKeys || strings.HasPrefix(p, pathKeys+"/"):
		h.serveKeys(w, r)
	case p == pathMembers || strings.HasPrefix(p, pathMembers+"/"):
		h.serveMembers(w, r)
	case p == pathMachines:
		h.serveMachines(w, r)
	case strings.HasPrefix(p, pathStats):
		h.serveStats(w, r, strings.TrimPrefix(p, pathStats))
	case strings.HasPrefix(p, pathAuth+"/"):
		h.serveAuth(w, r)
	default:
		http.NotFound(w, r)
	}
}

// cleanPath is the shortest form of a path. A slash at its end stays.
func cleanPath(p string) string {
	clean := path.Clean("/" + strings.TrimPrefix(p, "/"))
	if strings.HasSuffix(p, "/") && clean != "/" {
		clean += "/"
	}
	return clean
}

// allow answers other methods with 405 and reports whether to go on.
func allow(w http.ResponseWriter, r *http.Request, methods ...string) bool {
	for _, m := range methods {
		if r.Method == m {
			return true
		}
	}
	w.Header().Set("Allow", strings.Join(methods, ","))
	http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
	return false
}

// named says of which cluster an answer is.
func (h *handler) named(w http.ResponseWriter) {
	w.Header().Set(headerCluster, h.cfg.Backend.Cluster.ID().String())
}

// bound keeps a handler from reading more of a body than n bytes.
func bound(w http.ResponseWriter, r *http.Request, n int64) {
	r.Body = http.MaxBytesReader(w, r.Body, n)
}

// bodyError is an error of reading a body; tooLarge says that there was more of it than is read.
func bodyError(err error) (text string, tooLarge bool) {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return fault.RequestTooLarge.Error(), true
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return io.ErrUnexpectedEOF.Error(), false
	}
	return err.Error(), false
}
