// Package ui drives the web page of running members in a real browser, headless: every view, by keyboard and by mouse, in
// light and dark, on a wide screen and on a phone's, with authentication, with trouble. It says what the page must show and
// that it asks nobody but its own member.
//
// With -update it also writes the screenshots of docs/ui.md.
package ui
