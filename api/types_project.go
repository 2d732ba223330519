package api

import (
	"time"

	"github.com/skerry-sync/skerry/blobs/hash"
	"github.com/skerry-sync/skerry/replica/ids"
)

// NewProjectRequest asks for a new replica that is a project.
type NewProjectRequest struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	// an identity of the keyring; the person's own by default
	Owner     string `json:"owner,omitempty"`
	Encrypted bool   `json:"encrypted,omitempty"`
}

// Project is a replica that is one.
type Project struct {
	ReplicaID   ids.Replica `json:"replica_id"`
	Replica     string      `json:"replica"` // its name here
	ProjectID   string      `json:"project_id"`
	Name        string      `json:"name"`
	Description string      `json:"description,omitempty"`
	Owner       string      `json:"owner"`
	Created     time.Time   `json:"created"`
	Updated     time.Time   `json:"updated"`
	// what is wrong with it; the rest may be missing then
	Fault string `json:"fault,omitempty"`
}

// AddAssetRequest asks to add an asset to a project, or a new version of one.
type AddAssetRequest struct {
	Project string `json:"project"`
	// letters, digits and hyphens; made from the file's name by default
	ID       string `json:"id,omitempty"`
	Name     string `json:"name,omitempty"`
	File     string `json:"file"`             // absolute
	Format   string `json:"format,omitempty"` // a media type; by the file's name by default
	Sign     bool   `json:"sign,omitempty"`
	Password string `json:"password,omitempty"` // of the author's identity, to sign
	Author   string `json:"author,omitempty"`   // an identity; the project's owner if its key is here
}

// Asset is one of a project.
type Asset struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Author  string    `json:"author"`
	Content hash.Hash `json:"content"` // BLAKE3 of the content: its version
	Size    uint64    `json:"size"`
	Format  string    `json:"format"`
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
	// "good", or what is wrong with it; nothing if it is not signed
	Signature string `json:"signature,omitempty"`
	Fault     string `json:"fault,omitempty"`
}

// AddReferenceRequest asks to lead from one asset to another.
type AddReferenceRequest struct {
	Project string `json:"project"`
	Source  string `json:"source"`
	Target  string `json:"target"` // an asset of the same project, or of Other
	// another project: a replica that is here, or a project id
	Other string `json:"other,omitempty"`
	// "contains", "depends-on", "derived-from" or "references"
	Type    string `json:"type"`
	Content string `json:"content,omitempty"` // of the target, in hex; needed if that is not here
}

// Reference leads from one asset to another.
type Reference struct {
	ID      string    `json:"id"`
	Source  string    `json:"source"`
	Project string    `json:"project,omitempty"` // of the target, if it is another
	Target  string    `json:"target"`
	Content hash.Hash `json:"content"`
	Type    string    `json:"type"`
	Created time.Time `json:"created"`
	Here    bool      `json:"here"` // the target is here, in this version or another
	Fault   string    `json:"fault,omitempty"`
}

// ProjectContents are a project with what is in it.
type ProjectContents struct {
	Project
	Assets     []Asset     `json:"assets"`
	References []Reference `json:"references"`
}

// AssetRequest names an asset.
type AssetRequest struct {
	Project string `json:"project"`
	Asset   string `json:"asset"`
}

// Version is one of an asset's, the present one first.
type Version struct {
	Asset   string    `json:"asset"`
	Project string    `json:"project,omitempty"` // if it is another
	Content hash.Hash `json:"content"`
	At      time.Time `json:"at"`   // when it was derived from, or of the present one updated
	Here    bool      `json:"here"` // its content is here
}
