package capcert

import (
	"slices"
	"strings"
)

// CheckKind checks the rules of the certificate's own kind: a member or an audience is given one
// collection, never the issuer's private paths, never who its members are, and with writing never
// its keyring. A device has no rules of its own. It returns a *RefusedError.
func (c *Cert) CheckKind() error {
	switch c.Kind {
	case Member:
		switch {
		case !c.HasSubjectID:
			return refuse("member-missing-sub-userid")
		case c.SubjectID == c.IssuerID:
			return refuse("member-self")
		}
	case Audience:
	default:
		return nil
	}
	switch {
	case slices.Contains(c.Scope.Collections, "*"):
		return refuse(c.Kind + "-wildcard-collections")
	case len(c.Scope.Collections) != 1:
		return refuse(c.Kind + "-multi-collection")
	}
	return c.checkBarriers()
}

func (c *Cert) checkBarriers() error {
	private := "users/" + c.IssuerID
	var allows, denies []string
	for _, p := range c.Scope.Paths {
		p = strings.ReplaceAll(p, identityParam, c.IssuerID)
		if p == private || strings.HasPrefix(p, private+"/") {
			return refuse(c.Kind + "-private-path")
		}
		if deny, ok := strings.CutPrefix(p, "!"); ok {
			denies = append(denies, deny)
		} else {
			allows = append(allows, p)
		}
	}
	if len(c.Scope.Paths) == 0 {
		allows = []string{"**"}
	}
	open := func(path string) bool {
		matches := func(glob string) bool { return MatchGlob(glob, path) }
		return slices.ContainsFunc(allows, matches) && !slices.ContainsFunc(denies, matches)
	}
	col := c.Scope.Collections[0]
	if open(col + "/_members") {
		return refuse(c.Kind + "-members-not-denied")
	}
	if slices.Contains(c.Scope.Ops, Write) && open(col+"/_keyring") {
		return refuse(c.Kind + "-keyring-not-denied")
	}
	return nil
}
