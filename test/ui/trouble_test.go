package ui

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

func clickOn(selector string) chromedp.Action { return chromedp.Click(selector, chromedp.ByQuery) }

// TestTrouble sees a cluster without keys, then a full one, then one that loses its members.
func TestTrouble(t *testing.T) {
	t.Parallel()
	c := found(t, "--quota-backend-bytes=2000000")
	p := open(t, c.members[0], "/#/keys")
	p.shows(".side .status", "There are no keys here.")
	p.keys("1")
	p.calm()

	c.fillUp()
	p.shows(".problems .critical", "Alarm NOSPACE")
	p.shows(".problems", "quota-backend-bytes")
	p.expect(true)
	c.members[2].kill()
	p.shows(".problems .warning", "m3 cannot be reached from here")
	p.shows(".members tr.down", "not connected")
	p.shows(".headline", "things need attention")
	p.until(`document.querySelector(".problems li").className === "critical"`) // worst first
	p.until(`/^\(\d\) /.test(document.title)`)
	p.snap("trouble-light")

	c.members[1].kill()
	p.shows(".problems .critical", "No leader")
	p.shows(".problems .critical", "m2 and m3 cannot be reached")
	p.keys("2")
	p.eval(`location.hash = "#/keys?key=big/0"`)
	p.shows(".banner", "There is no leader to ask")
	p.shows(".meta", "244 KiB")

	p.keys("1")
	c.members[0].kill()
	p.shows(".problems .critical", "This member does not answer")
	p.until(`document.querySelector(".overview").hasAttribute("data-stale")`)
	p.verdict()
}

// fillUp puts keys until one is refused. They are so small that less than the twentieth part of the quota is free then: with more the
// alarm would clear itself.
func (c *cluster) fillUp() {
	c.t.Helper()
	for i, size := 0, 250_000; i < 100; i, size = i+1, 50_000 {
		err := c.try(c.members[0], "", "kv/put", fmt.Sprintf(`{"key":%q,"value":%q}`, b64(fmt.Sprintf("big/%d", i)), b64(strings.Repeat("f", size))), nil)
		if err != nil {
			if !strings.Contains(err.Error(), "database space exceeded") {
				c.t.Fatalf("after %d puts: %v", i, err)
			}
			return
		}
	}
	c.t.Fatal("100 puts, and the quota is not used up")
}

// TestLogin has users with other rights each.
func TestLogin(t *testing.T) {
	t.Parallel()
	c := found(t)
	c.put("/services/a", "for everybody")
	c.put("/secret", "for root")
	c.ask("auth/user/add", `{"name":"root","password":"secret of root"}`, nil)
	c.ask("auth/user/grant", `{"user":"root","role":"root"}`, nil)
	c.ask("auth/user/add", `{"name":"reader","password":"a b c"}`, nil)
	c.ask("auth/role/add", `{"name":"readers"}`, nil)
	c.ask("auth/role/grant", fmt.Sprintf(`{"name":"readers","perm":{"permType":"READ","key":%q,"range_end":%q}}`, b64("/services/"), b64("/services0")), nil)
	c.ask("auth/user/grant", `{"user":"reader","role":"readers"}`, nil)
	c.ask("auth/enable", `{}`, nil)

	p := open(t, c.members[0], "/#/keys")
	p.expect(true)
	p.until(`document.querySelector("dialog.login").open && document.activeElement.id === "user"`)
	p.snap("login")
	p.logIn("reader", "wrong")
	p.shows("dialog.login .bad", "The user name or the password is wrong.")
	p.logIn("reader", "a b c")
	p.until(`!document.querySelector("dialog.login").open`)
	p.shows(".side .status", "What reader may read.")
	p.click(`[role="treeitem"]`, "/services/")
	p.click(".key", "a")
	p.shows(".body pre", "for everybody")
	p.eval(`location.hash = "#/keys?key=/secret"`)
	p.shows(".value .bad", "permission denied")
	p.keys("3", "/")
	p.write("/services/")
	p.keys("Enter")
	p.shows(".status", "Watching keys under /services/")
	p.eval(`location.hash = "#/watch?key=/secret"`)
	p.shows(".status", "permission denied")
	p.keys("Escape", "1")
	p.calm()

	// The token is nowhere but in the page's memory.
	for _, place := range []string{"JSON.stringify(localStorage)", "JSON.stringify(sessionStorage)", "document.cookie", "location.href"} {
		if kept := p.eval(place); strings.Contains(kept, "reader") || strings.Contains(kept, "a b c") || strings.Contains(kept, ".") && strings.HasPrefix(place, "JSON") {
			t.Errorf("%s keeps %s", place, kept)
		}
	}
	p.do(clickOn("#top .who"))
	p.until(`document.querySelector("dialog.login")?.open && document.activeElement.id === "user"`)
	p.logIn("root", "secret of root")
	p.keys("2")
	p.eval(`location.hash = "#/keys?key=/secret"`)
	p.shows(".body pre", "for root")
	p.verdict()
}

// logIn fills the form by keyboard.
func (p *page) logIn(user, password string) {
	p.t.Helper()
	p.eval(`document.getElementById("user").focus()`)
	p.write(user)
	p.keys("Tab")
	p.until(`document.activeElement.id === "password"`)
	p.write(password)
	p.keys("Enter")
}
