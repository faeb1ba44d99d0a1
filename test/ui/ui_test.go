package ui

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

const config = `{"name":"checkout","replicas":%d,"limits":{"cpu":"%dm","memory":"%s"},"endpoints":["10.0.0.4:8080","10.0.0.9:8080"],"tracing":false,"budget":12345678901234567890}`

// fill puts keys of the kinds that people have.
func fill(c *cluster) {
	for _, service := range []string{"billing", "checkout", "search"} {
		for _, name := range []string{"image", "region", "replicas"} {
			c.put("/services/"+service+"/"+name, name+" of "+service)
		}
		c.put("/services/"+service+"/config", fmt.Sprintf(config, 3, 500, "256Mi"))
		c.put("/services/"+service+"/config", fmt.Sprintf(config, 5, 750, "256Mi"))
		c.put("/services/"+service+"/config", fmt.Sprintf(config, 5, 750, "512Mi"))
	}
	c.putMany(40, func(i int) string { return fmt.Sprintf("/flags/feature-%02d", i) }, "on")
	c.putMany(900, func(i int) string { return fmt.Sprintf("/jobs/%04d", i) }, "queued")
	c.putMany(400, func(i int) string { return fmt.Sprintf("/registry/pods/ns-%d/web-%03d", i/200, i) }, "k8s\x00\n\x09\n\x02v1\x12\x03Pod\x12\x04data")
	c.put("motd", "Welcome to the cluster.\nBackups run at 03:00 UTC.")
	c.put("bytes/\xff\x00\x01", "\x00\x01\x02\xfe")
	c.put("bytes/empty", "")
}

// total is the number of keys that fill puts.
const total = 12 + 40 + 900 + 400 + 3

// TestViews goes through the views of a healthy cluster.
func TestViews(t *testing.T) {
	t.Parallel()
	c := found(t)
	fill(c)
	c.load()
	p := open(t, c.members[0], "")
	t.Run("overview", func(t *testing.T) { p.at(t).overview(c) })
	t.Run("tree", func(t *testing.T) { p.at(t).tree(c) })
	t.Run("values", func(t *testing.T) { p.at(t).values() })
	t.Run("watch", func(t *testing.T) { p.at(t).watch(c) })
	t.Run("history", func(t *testing.T) { p.at(t).history(c) })
	t.Run("help and colours", func(t *testing.T) { p.at(t).frame() })
	t.Run("pictures", func(t *testing.T) { p.at(t).portraits() })
	t.Run("phone", func(t *testing.T) { p.at(t).phone() })
	p.at(t).verdict()
	if p.reads < 5 {
		t.Errorf("the bounds of only %d reads were looked at", p.reads)
	}
}

// at has the page complain to a part of the test.
func (p *page) at(t *testing.T) *page {
	p.t = t
	return p
}

// calm waits until nothing is wrong, or no more than what a slow machine brings about.
func (p *page) calm() {
	p.t.Helper()
	p.until(`document.querySelector(".headline.good")?.innerText.includes("Everything is well") || document.querySelector(".headline.warning") &&
		[...document.querySelectorAll(".problems li")].every((e) => /disk|changes of leader|behind|to apply/.test(e.innerText))`)
}

func (p *page) overview(c *cluster) {
	p.calm()
	p.until(`document.querySelectorAll(".members tbody tr").length === 3`)
	p.until(`document.querySelectorAll(".members .role.lead").length === 1`)
	for _, m := range c.members {
		p.shows(".members tr", m.name)
		p.shows(".members tr", m.client)
	}
	p.shows(".members tr:first-child", "this member")
	p.until(`[...document.querySelectorAll('.members td[data-label="log"]')].every((e) => /up to date|behind/.test(e.innerText))`) // the leader knows
	p.until(`Number(document.querySelectorAll(".tile strong")[1].innerText.replace(/\D/g, "")) >= ` + fmt.Sprint(total))
	p.shows(".tile", "of 2.0 GiB")
	p.shows(".facts", "Quorate")

	// Plots move, and show the load that there is.
	const line = `document.querySelector('[data-plot="Requests"] path.line.c1')?.getAttribute("d")`
	p.until(line)
	p.eval("window.before = " + line)
	p.until(line + ` !== window.before`)
	p.until(`Number(document.querySelector('[data-plot="Requests"] .legend b').innerText) > 5`)
	for _, name := range []string{"Write latency", "Read latency", "Disk"} {
		p.until(fmt.Sprintf(`/s$/.test(document.querySelector('[data-plot=%q] .legend b').innerText)`, name))
	}
	p.focusOrder()
}

// portraits takes pictures of the overview. Those that are kept wait for some load.
func (p *page) portraits() {
	p.keys("1")
	p.calm()
	if *update {
		p.until(`parseInt(document.querySelector('[data-plot="Requests"] .tick[y][x="52"]')?.textContent.slice(1)) >= 45`)
	}
	p.snap("overview-light")
	p.scheme("dark")
	p.until(`getComputedStyle(document.body).backgroundColor === "rgb(11, 16, 21)"`)
	p.snap("overview-dark")
	p.scheme("light")
}

// focusOrder walks through the whole page by Tab: everything is reached in the order of reading, and seen to be.
func (p *page) focusOrder() {
	var order []string
	for range 40 {
		p.keys("Tab")
		var at struct {
			Name    string
			Outline bool
		}
		text := p.eval(`(() => { const e = document.activeElement; return JSON.stringify({ name: e.getAttribute("data-plot") ?? e.getAttribute("aria-label") ?? e.innerText,
			outline: getComputedStyle(e).outlineStyle !== "none" }); })()`)
		if err := json.Unmarshal([]byte(text), &at); err != nil {
			p.t.Fatal(err)
		}
		if !at.Outline {
			p.t.Errorf("one does not see that %q has the focus", at.Name)
		}
		order = append(order, strings.TrimSpace(at.Name))
		if at.Name == "Requests" { // the first plot: read a point of it
			p.keys("Left", "Left")
			p.until(`!document.querySelector('[data-plot="Requests"] .tip').hidden`)
		}
		if at.Name == "Clients" {
			break
		}
	}
	p.eval("document.activeElement.blur(), window.scrollTo(0, 0)")
	all := strings.Join(order, " | ")
	for _, want := range []string{"Skip to content", "Quorate", "healthy", "Overview", "Keys", "Watch", "Colours: auto", "Keyboard", "http://", "Requests", "Write latency", "Read latency", "Disk", "Watch events", "Clients"} {
		_, rest, ok := strings.Cut(all, want)
		if !ok {
			p.t.Errorf("Tab does not come to %q in its place: %s", want, strings.Join(order, " | "))
			return
		}
		all = rest
	}
}

func (p *page) tree(c *cluster) {
	p.keys("2")
	p.shows(`[role="treeitem"]`, "/services/")
	p.until(`/^1.?4\d\d keys|^1.?3\d\d keys/.test(document.querySelector(".side .status").innerText)`)
	p.eval(`document.querySelector('[role="treeitem"][tabindex="0"]').focus()`)
	p.keys("End", "Up", "Up")
	p.until(`document.activeElement.title === "/services/"`)
	p.keys("Right")
	p.shows(`[aria-level="2"]`, "checkout/")
	p.keys("Down", "Down", "Right")
	p.shows(`[aria-level="3"]`, "config")
	p.keys("Down", "Enter")
	p.shows(".keyhead", "/services/checkout/config")
	p.shows(".body pre", `"memory": "512Mi"`)
	p.shows(".body pre", `12345678901234567890`) // not rounded
	p.shows(".meta", "Version\n3")
	p.shows(".history", "version 1")
	p.until(`document.querySelectorAll(".history .rev").length === 3`)
	p.shows(".diff .add", `"512Mi"`)
	p.shows(".diff .cut", `"256Mi"`)
	p.shows(".end", "Created at revision")
	p.snap("keys-light")

	// What is put now is there when one asks again.
	c.put("/services/checkout/config", `{"fresh":true}`)
	p.do(clickOn(`.keyhead [aria-label="Read again"]`))
	p.shows(".body pre", `"fresh": true`)
	p.keys("Left") // of the tabs or the tree: it must not leave the view
	p.shows(".keyhead", "/services/checkout/config")

	// A folder of many keys comes in pages.
	p.click(".folder", "/jobs/")
	p.shows(".more", "more keys")
	p.until(`document.querySelectorAll(".tree .key").length < 400`)
	p.eval(`window.before = document.querySelectorAll(".tree li").length`)
	p.click(".more", "more keys")
	p.until(`document.querySelectorAll(".tree li").length > window.before`)
	p.click(".folder", "/jobs/")
	p.hides(".key", "0001")

	// Folders are counted without reading them: the keys of each namespace.
	p.click(".folder", "/registry/")
	p.shows(`[title="/registry/pods/ns-0/"] .count`, "200")
	p.shows(`[title="/registry/pods/ns-1/"] .count`, "200")

	// A prefix, then an exact key, typed.
	p.keys("/")
	p.until(`document.activeElement.id === "prefix"`)
	p.write("/flags/")
	p.keys("Enter")
	p.shows(".side .status", "40 keys under /flags/")
	p.keys("Escape", "/")
	p.write("motd")
	p.keys("Enter")
	p.shows(".body pre", "Backups run at 03:00 UTC.")
	p.click(".status .link", "all keys")
	p.shows(`[role="treeitem"]`, "motd")
}

func (p *page) values() {
	p.eval(`location.hash = "#/keys?key=/registry/pods/ns-0/web-000"`)
	p.shows(".badge", "Kubernetes protobuf: Pod v1")
	p.shows(`[aria-selected="true"]`, "web-000") // the tree opens where the key is
	p.shows("pre.hex", "6b 38 73 00")
	p.eval(`location.hash = "#/keys?key=bytes/%ff%00%01"`)
	p.shows(".keyhead", `bytes/\xff\x00\x01`)
	p.shows(".badge", "binary")
	p.shows("pre.hex", "00 01 02 fe")
	p.eval(`location.hash = "#/keys?key=bytes/empty"`)
	p.shows(".value", "The value is empty.")
	p.eval(`location.hash = "#/keys?key=nothing"`)
	p.shows(".value", "There is no such key")
	p.eval(`location.hash = "#/keys?key=/services/search/config"`)
	p.click(".tab", "Text")
	p.shows(".body pre", `{"name":"checkout","replicas":5`)
	p.keys("Right")
	p.shows("pre.hex", "7b 22 6e 61 6d 65")
	p.scheme("dark")
	p.click(".tab", "JSON")
	p.shows(".past .end", "Created")
	p.snap("keys-dark")
	p.scheme("light")
}

func (p *page) watch(c *cluster) {
	p.keys("Escape", "3")
	p.shows(".watch", "Changes appear here")
	p.keys("/")
	p.write("/live/")
	p.keys("Enter")
	p.shows(".status", "Watching keys under /live/")
	c.put("/live/door", "open")
	p.shows(".event", "open")
	p.shows(".kind.create", "create")
	c.put("/live/door", "closed")
	p.shows(".kind.put", "put")
	c.put("/elsewhere", "quiet")
	c.ask("kv/deleterange", fmt.Sprintf(`{"key":%q}`, b64("/live/door")), nil)
	p.shows(".kind.delete", "delete")
	p.hides(".event", "elsewhere")
	if n := p.eval(`document.querySelectorAll(".event").length`); n != "3" {
		p.t.Errorf("%s events instead of 3", n)
	}
	p.keys("Escape", "p")
	p.shows(".status", "paused")
	c.put("/live/window", "ajar")
	p.shows(".status", "1 waiting")
	p.hides(".event", "ajar")
	p.keys("p")
	p.shows(".event", "ajar")
	p.click(".event", "ajar")
	p.shows(".events pre", "ajar")

	// The list is bounded, however fast events come.
	c.putMany(700, func(i int) string { return fmt.Sprintf("/live/%04d", i) }, "many")
	p.shows(".status", "704 events")
	p.until(`document.querySelectorAll(".events li").length <= 300`)
	p.click(".bar button", "Clear")
	for i, action := range []string{"opened", "closed", "locked"} {
		c.put(fmt.Sprintf("/live/door-%d", i+1), fmt.Sprintf(`{"state":%q,"by":"porter","at":"03:0%d"}`, action, i))
	}
	c.put("/live/door-1", `{"state":"closed","by":"guard","at":"03:17"}`)
	c.ask("kv/deleterange", fmt.Sprintf(`{"key":%q}`, b64("/live/door-3")), nil)
	p.shows(".event", "guard")
	p.shows(".kind", "delete")
	p.scheme("dark")
	p.click(".event", "guard")
	p.shows(".before", "opened")
	p.snap("watch-dark")
	p.scheme("light")
	p.click(".bar button", "Stop")
	p.hides(".status", "Watching")
}

// history: many revisions come in steps, as far as they are retained.
func (p *page) history(c *cluster) {
	var put struct{ Header struct{ Revision string } }
	for i := range 30 {
		c.ask("kv/put", fmt.Sprintf(`{"key":%q,"value":%q}`, b64("counter"), b64(fmt.Sprint(i))), &put)
		if i == 4 {
			c.ask("kv/compaction", fmt.Sprintf(`{"revision":%q}`, put.Header.Revision), nil)
		}
	}
	p.expect(true) // that there is nothing older is an error of the gateway, which the browser notes
	defer p.expect(false)
	p.eval(`location.hash = "#/keys?key=counter"`)
	p.shows(".meta", "Version\n30")
	p.until(`document.querySelectorAll(".history .rev").length === 21`)
	p.click(".past > button", "Older revisions")
	p.shows(".past .end", "Older revisions are compacted.")
	p.until(`document.querySelectorAll(".history .rev").length === 26`)
	p.click(".history li:nth-child(2) .rev", "version 29")
	p.shows(".history li:nth-child(2) .diff .add", "28")
	p.shows(".history li:nth-child(2) .diff .cut", "27")
}

func (p *page) frame() {
	p.keys("1", "?")
	p.until(`document.querySelector("dialog.help").open`)
	p.shows("dialog.help", "pause, go on")
	p.keys("Escape")
	p.until(`!document.querySelector("dialog.help").open`)
	dark := p.eval(`getComputedStyle(document.body).backgroundColor`)
	p.keys("t", "t") // auto, light, dark
	p.until(`document.documentElement.dataset.theme === "dark"`)
	if now := p.eval(`getComputedStyle(document.body).backgroundColor`); now == dark {
		p.t.Errorf("dark looks like light: %s", now)
	}
	p.keys("t")
	p.until(`document.documentElement.dataset.theme === undefined`)
}

// phone: nothing is wider than the screen, and a value takes the place of the tree.
func (p *page) phone() {
	for _, width := range []int64{390, 320} {
		p.size(width, 844)
		for _, view := range []string{"#/overview", "#/watch", "#/keys"} {
			p.eval(fmt.Sprintf("location.hash = %q", view))
			p.until(`document.querySelector('nav a[aria-current]').getAttribute("href") === location.hash`)
			if wide := p.eval("document.documentElement.scrollWidth"); wide != fmt.Sprint(width) {
				p.t.Errorf("%s is %s wide on a screen of %d", view, wide, width)
			}
		}
		p.shows(`[role="treeitem"]`, "motd")
		p.click(".key", "motd")
		p.shows(".body pre", "Welcome")
		p.until(`!document.querySelector(".tree").checkVisibility()`)
		p.do(clickOn(".keyhead .back"))
		p.until(`document.querySelector(".tree").checkVisibility()`)
	}
	p.size(390, 844)
	p.eval(`location.hash = "#/overview"`)
	p.calm()
	p.snap("phone")
}
