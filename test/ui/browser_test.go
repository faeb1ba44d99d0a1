package ui

import (
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

var update = flag.Bool("update", false, "write the screenshots of docs/screenshots")

// pictureMax bounds one screenshot, bytes.
const pictureMax = 150_000

// executable is the browser.
var executable string

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	path, err := chromium()
	if err != nil {
		return 1, err
	}
	dir, err := os.MkdirTemp("", "quorate-ui-test")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	if err := build(dir); err != nil {
		return 1, err
	}
	executable = path
	return m.Run(), nil
}

// chromium finds the browser. These tests are never skipped: without it they fail.
func chromium() (string, error) {
	for _, name := range []string{os.Getenv("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); name != "" && err == nil {
			return path, nil
		}
	}
	return "", errors.New("the tests of the web page need Chromium: install it (apt-get install chromium), or name one in the variable CHROMIUM")
}

// page is a tab, and everything that it asked for and complained of.
type page struct {
	t    *testing.T
	ctx  context.Context
	base string

	mu       sync.Mutex
	requests []*network.Request
	errors   []string
	mishaps  bool // failing requests are part of the test
	reads    int  // of ranges of keys that were looked at
}

// open starts a browser with the page of a member, 1280 by 800 pixels, light.
func open(t *testing.T, m *member, fragment string) *page {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(executable), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("hide-scrollbars", true), chromedp.Flag("lang", "en"),
		chromedp.WSURLReadTimeout(patience)) // three of them start at the same time
	all, end := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(end)
	ctx, cancel := chromedp.NewContext(all, chromedp.WithErrorf(func(string, ...any) {}))
	t.Cleanup(cancel)
	ctx, stop := context.WithTimeout(ctx, 8*time.Minute)
	t.Cleanup(stop)
	p := &page{t: t, ctx: ctx, base: m.client}
	chromedp.ListenTarget(ctx, p.hear)
	p.do(network.Enable(), log.Enable(), runtime.Enable())
	p.size(1280, 800)
	p.scheme("light")
	p.do(chromedp.Navigate(m.client + "/ui" + fragment))
	return p
}

// hear is called by chromedp, which must not wait.
func (p *page) hear(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		p.requests = append(p.requests, e.Request)
	case *runtime.EventExceptionThrown:
		p.errors = append(p.errors, "exception: "+e.ExceptionDetails.Error())
	case *runtime.EventConsoleAPICalled:
		for _, a := range e.Args {
			p.errors = append(p.errors, fmt.Sprintf("console.%s: %s", e.Type, a.Value))
		}
	case *log.EventEntryAdded:
		if e.Entry.Source != log.SourceNetwork || !p.mishaps {
			p.errors = append(p.errors, fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		}
	}
}

// expect says whether failing requests are part of the test from here on.
func (p *page) expect(mishaps bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mishaps = mishaps
}

// verdict fails the test if the page complained, or asked anybody but its member. It looks at the bounds of its requests.
func (p *page) verdict() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.errors {
		p.t.Errorf("the browser says: %s", e)
	}
	for _, r := range p.requests {
		if !strings.HasPrefix(r.URL, p.base+"/ui") && !strings.HasPrefix(r.URL, p.base+"/v3/") {
			p.t.Errorf("the page asked for %s", r.URL)
		}
		if path := strings.TrimPrefix(r.URL, p.base+"/v3/"); strings.Contains(path, "put") || strings.Contains(path, "delete") || strings.Contains(path, "txn") {
			p.t.Errorf("the page asked for a change: %s", r.URL)
		}
		if strings.HasSuffix(r.URL, "/kv/range") {
			p.bounded(r)
		}
	}
}

// bounded checks that a read of a range is small: keys alone with a limit, or a count.
func (p *page) bounded(r *network.Request) {
	for _, entry := range r.PostDataEntries {
		text, err := base64.StdEncoding.DecodeString(entry.Bytes)
		if err != nil {
			p.t.Errorf("%v in %q", err, entry.Bytes)
			continue
		}
		body := string(text)
		if strings.Contains(body, `"range_end"`) {
			p.reads++
		}
		if !strings.Contains(body, `"range_end"`) || strings.Contains(body, `"count_only":true`) {
			continue
		}
		if !strings.Contains(body, `"keys_only":true`) || !strings.Contains(body, `"limit":"150"`) || !strings.Contains(body, `"serializable":true`) {
			p.t.Errorf("the page reads too much at once: %s", body)
		}
	}
}

func (p *page) do(actions ...chromedp.Action) {
	p.t.Helper()
	if err := chromedp.Run(p.ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

func (p *page) size(w, h int64) {
	p.t.Helper()
	p.do(emulation.SetDeviceMetricsOverride(w, h, 1, w < 600))
}

// scheme is what the system prefers: light or dark.
func (p *page) scheme(name string) {
	p.t.Helper()
	p.do(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"}}))
}

// eval is the value of an expression as text.
func (p *page) eval(expression string) string {
	p.t.Helper()
	var out any
	p.do(chromedp.Evaluate(expression, &out))
	return fmt.Sprint(out)
}

// until waits until an expression is true.
func (p *page) until(expression string) {
	p.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(patience); ; {
		var ok bool
		err := chromedp.Run(p.ctx, chromedp.Evaluate("!!("+expression+")", &ok))
		if err == nil && ok {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			p.snap("failure")
			p.t.Fatalf("never true: %s (%v)\n--- the page says ---\n%s", expression, err, p.eval("document.body.innerText"))
		}
	}
}

// shows waits until an element contains a text.
func (p *page) shows(selector, words string) {
	p.t.Helper()
	p.until(fmt.Sprintf("[...document.querySelectorAll(%q)].some((e) => e.innerText.includes(%q))", selector, words))
}

// hides waits until none does.
func (p *page) hides(selector, words string) {
	p.t.Helper()
	p.until(fmt.Sprintf("![...document.querySelectorAll(%q)].some((e) => e.checkVisibility() && e.innerText.includes(%q))", selector, words))
}

// click clicks the first element that contains a text.
func (p *page) click(selector, words string) {
	p.t.Helper()
	p.shows(selector, words)
	p.until(fmt.Sprintf(`(() => { document.querySelectorAll("[data-click]").forEach((e) => e.removeAttribute("data-click"));
		const e = [...document.querySelectorAll(%q)].find((e) => e.innerText.includes(%q)); e?.setAttribute("data-click", ""); e?.scrollIntoView({block: "center"}); return e; })()`, selector, words))
	p.do(chromedp.Click("[data-click]", chromedp.ByQuery))
}

var named = map[string]string{
	"Enter": kb.Enter, "Tab": kb.Tab, "Escape": kb.Escape, "Up": kb.ArrowUp, "Down": kb.ArrowDown, "Left": kb.ArrowLeft, "Right": kb.ArrowRight, "Home": kb.Home, "End": kb.End,
}

// keys presses keys, one after the other.
func (p *page) keys(names ...string) {
	p.t.Helper()
	for _, name := range names {
		if code, ok := named[name]; ok {
			name = code
		}
		p.do(chromedp.KeyEvent(name))
	}
}

// write types a text in place of what is in the focused field.
func (p *page) write(text string) {
	p.t.Helper()
	p.eval(`document.activeElement.select()`)
	p.do(chromedp.KeyEvent(text))
}

// snap takes a picture of what a screen shows.
func (p *page) snap(name string) {
	p.t.Helper()
	var picture []byte
	if err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot(&picture)); err != nil {
		p.t.Errorf("picture %s: %v", name, err)
		return
	}
	if len(picture) > pictureMax {
		p.t.Errorf("picture %s has %d bytes, at most %d", name, len(picture), pictureMax)
	}
	dir := p.t.TempDir()
	if name == "failure" {
		dir = os.TempDir() // it is wanted after the test
	} else if *update {
		dir = filepath.Join("..", "..", "docs", "screenshots")
	}
	file := filepath.Join(dir, "ui-"+name+".png")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(file, picture, 0o644); err != nil {
		p.t.Fatal(err)
	}
	if name == "failure" {
		p.t.Logf("picture of the page: %s", file)
	}
}
