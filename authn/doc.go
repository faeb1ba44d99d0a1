// Package authn finds out who sent a request: it checks passwords, issues and recognises tokens (simple ones and JWT), and
// reads the name in a verified client certificate.
//
// It does not decide what anybody may do (package auth), keeps no user on disk and proposes nothing: what the cluster must
// know goes through the log, and the caller tells this package what was applied.
//
// How data passes: the front asks Keeper.Identity for each unary call and each request of a stream, with the View that it
// decides on and the call's metadata. Authenticate asks Verifier.Check with the user's record of a View, proposes the
// entry with Tokens.Prefix, and answers with Tokens.Issue once it is applied. The goroutine that applies entries calls
// Tokens.Assign and Tokens.Invalidate.
//
// Invariants:
//   - Assign and Invalidate are called before the View and the applied index they belong to are published. So a member that
//     has applied a token's index knows the token, and nobody is recognised by a token that the View no longer allows.
//   - After a snapshot of another member is installed every simple token is invalidated: the entries that it stands for may
//     have dropped any of them.
//   - Nothing here blocks its caller for the time of a password's computation. What passwords may use of the processors and
//     of memory is bounded (package limits), and a flood of wrong ones does not keep out who was let in before.
//   - A password is compared with a hash of the same cost whether the user exists or not.
//   - The method of a JWT's signature is fixed by the configuration; what the token says of it only has to agree.
//   - No password, token, hash or key is in an error or a warning. Logs name a token by its Fingerprint.
package authn
