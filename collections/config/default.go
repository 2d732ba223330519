package config

import _ "embed"

// DefaultText is the configuration of a server that was given none, as a file: the data of
// OctoBot's users, whom their wallets prove.
//
//go:embed default.json
var DefaultText []byte

// Default returns the configuration of DefaultText.
func Default() *Config {
	c, err := Parse(DefaultText)
	if err != nil {
		panic("the default configuration: " + err.Error()) // a test has read it
	}
	return c
}
