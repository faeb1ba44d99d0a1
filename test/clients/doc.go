// Package clients lets the official client and what is built on it work on three real members, directly, through "quorate gateway"
// and through "quorate proxy": the higher packages of the client, fail-over, and the story of a store of configuration.
//
// What is slow, because a client has to find out by itself that nothing comes any more, is in package faults below.
package clients
