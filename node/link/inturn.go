package link

import ma "github.com/multiformats/go-multiaddr"

// InTurn returns the addresses of several parties so that the first of each come first, then the
// second of each, and so on: where there is room for few, none takes the place of another.
func InTurn(parties ...[]ma.Multiaddr) (all []ma.Multiaddr) {
	for i, more := 0, true; more; i++ {
		more = false
		for _, of := range parties {
			if i < len(of) {
				all, more = append(all, of[i]), true
			}
		}
	}
	return all
}
