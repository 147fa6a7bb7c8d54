// Package config is skerryd's configuration: one YAML file, checked as a whole before anything starts.
//
// [Load] reads the file, fills in defaults and checks every value; its error lists all that is wrong at once, each with
// the key, the value and what is allowed. A key that does not exist is an error too, since a misspelt key would
// otherwise silently mean the default. A Config is a plain value; copies are safe to share.
//
// The reference of all keys is docs/configuration.md; a test compares it with the struct tags and defaults here.
package config
