// Package ui serves the web page of a member: its cluster, its load, its keys, and what changes in them.
//
// It is not an API. Keys, members and alarms come to the page over the JSON gateway under /v3/, with the rights of whoever
// looks at it; only the numbers of /ui/stats
// and /ui/past, which say what /metrics says, come from here. The page changes nothing.
//
// How data passes: the assets are embedded, compressed once and answered from memory with an entity tag. A browser
// asks for them, then for /ui/stats every few seconds.
//
// Invariants: no asset refers to anything outside of /ui/ and /v3/, which the content security policy enforces; nothing is
// answered to a request that Access does not let through; a page of another origin can neither read nor frame anything.
package ui

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
)

// Path is where the page is, and the beginning of the paths of everything that belongs to it.
const Path = "/ui/"

// The names of what is not an asset.
const (
	indexFile = "index.html"
	statsPath = Path + "stats"
	pastPath  = Path + "past"
)

// Config is what New needs.
type Config struct {
	Access Access
	// Stats makes the answer to /ui/stats, which must marshal to JSON. It is called from the requests' goroutines.
	Stats func(context.Context) any
	// Past makes the answer to /ui/past: what Stats would have said at instants before, oldest first.
	Past func() any
}

//go:embed assets
var embedded embed.FS

// asset is a file as it is answered.
type asset struct {
	kind         string // content type
	plain, small []byte // small is compressed; nil when that gains nothing
	tag          string // of plain
}

// page is the handler of everything below Path.
type page struct {
	cfg    Config
	assets map[string]asset // as loaded; never changed
}

// New makes the handler of Path and of what is below it, and of Path without the slash.
func New(cfg Config) http.Handler { return &page{cfg: cfg, assets: loaded()} }

// loaded are the assets by path below Path. Compressing them takes a moment: it is done once in a process.
var loaded = sync.OnceValue(func() map[string]asset {
	all := map[string]asset{}
	files, err := fs.Sub(embedded, "assets")
	if err == nil {
		err = fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := fs.ReadFile(files, name)
			if err == nil {
				all[name] = newAsset(name, text)
			}
			return err
		})
	}
	if err != nil {
		panic(fmt.Sprintf("BUG: embedded assets: %v", err))
	}
	return all
})

// kinds are the content types of assets, by the ending of their names. The system's own table is not asked: it differs.
var kinds = map[string]string{
	".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml",
}

func newAsset(name string, text []byte) asset {
	a := asset{kind: kinds[path.Ext(name)], plain: text}
	if a.kind == "" {
		panic("BUG: asset of unknown kind: " + name)
	}
	sum := sha256.Sum256(text)
	a.tag = hex.EncodeToString(sum[:12])
	if small := compressed(text); len(small) < len(text) {
		a.small = small
	}
	return a
}

// compressed is the text in gzip's form. Writing to memory does not fail.
func compressed(text []byte) []byte {
	var out bytes.Buffer
	w, _ := gzip.NewWriterLevel(&out, gzip.BestCompression)
	_, _ = w.Write(text)
	_ = w.Close()
	return out.Bytes()
}

// policy lets the page load only what this server serves below the same origin, and run no script but its files.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; " +
	"form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// secure sets the headers of every answer. Those by which the rest of the endpoint shares its answers with other origins go.
func secure(h http.Header) {
	for _, name := range []string{"Access-Control-Allow-Origin", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers"} {
		h.Del(name)
	}
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
}

// ServeHTTP implements http.Handler.
func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	if refused := p.cfg.Access.check(r); refused != nil {
		http.Error(w, refused.why, refused.code)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "The web page is only read: use GET.", http.StatusMethodNotAllowed)
		return
	}
	switch r.URL.Path {
	case strings.TrimSuffix(Path, "/"):
		w.Header().Set("Location", Path)
		w.WriteHeader(http.StatusPermanentRedirect)
	case statsPath:
		serveNumbers(w, r, p.cfg.Stats(r.Context()))
	case pastPath:
		serveNumbers(w, r, p.cfg.Past())
	default:
		p.serveAsset(w, r)
	}
}

func (p *page) serveAsset(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, Path)
	if name == "" {
		name = indexFile
	}
	a, ok := p.assets[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", a.kind)
	h.Set("Cache-Control", "no-cache") // kept, and asked for each time: another release of the server has other files
	h.Set("Vary", "Accept-Encoding")
	body, tag := a.plain, `"`+a.tag+`"`
	if a.small != nil && acceptsGzip(r) {
		body, tag = a.small, `"`+a.tag+`-gzip"` // another representation has another tag
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("ETag", tag)
	if matches(r.Header.Get("If-None-Match"), tag) {
		h.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(body)
	}
}

// acceptsGzip reads Accept-Encoding as browsers write it; whoever refuses gzip by a weight of 0 gets plain text.
func acceptsGzip(r *http.Request) bool {
	for _, part := range strings.Split(r.Header.Get("Accept-Encoding"), ",") {
		coding, weight, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.TrimSpace(coding) == "gzip" {
			q, err := strconv.ParseFloat(strings.TrimPrefix(strings.TrimSpace(weight), "q="), 64)
			return err != nil || q > 0
		}
	}
	return false
}

// matches reports whether a list of tags, as If-None-Match has it, names this one.
func matches(list, tag string) bool {
	for _, t := range strings.Split(list, ",") {
		if t = strings.TrimPrefix(strings.TrimSpace(t), "W/"); t == tag || t == "*" {
			return true
		}
	}
	return false
}

// serveNumbers writes what the page plots. It says what /metrics says, to the same readers.
func serveNumbers(w http.ResponseWriter, r *http.Request, numbers any) {
	text, err := json.Marshal(numbers)
	if err != nil {
		panic(fmt.Sprintf("BUG: numbers do not marshal: %v", err))
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	if acceptsGzip(r) {
		text = compressed(text)
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Content-Length", strconv.Itoa(len(text)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(text)
	}
}
