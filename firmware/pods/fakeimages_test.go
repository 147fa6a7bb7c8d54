package pods

import (
	"context"
	"maps"

	"github.com/skerry/skerry/firmware/cri"
)

func (f *fakeRuntime) PullImage(_ context.Context, image *cri.ImageSpec, auth *cri.AuthConfig, _ *cri.PodSandboxConfig) (string, error) {
	unlock, err := f.enter("PullImage")
	if err != nil {
		return "", err
	}
	defer unlock()
	if !f.remote[image.Image] {
		return "", &cri.Error{Method: "PullImage", Code: cri.ErrNotFound, Message: image.Image + ": not found in the registry"}
	}
	if want := f.private[image.Image]; want != "" && (auth == nil || auth.Password != want) {
		return "", &cri.Error{Method: "PullImage", Code: cri.ErrUnknown, Message: image.Image + ": 401 Unauthorized"}
	}
	id := "sha256:" + image.Image
	f.images[image.Image] = &cri.Image{ID: id, RepoDigests: []string{"ref@" + id}}
	f.images[id] = f.images[image.Image]
	return id, nil
}

func (f *fakeRuntime) ImageStatus(_ context.Context, image *cri.ImageSpec, _ bool) (*cri.ImageStatusResponse, error) {
	unlock, err := f.enter("ImageStatus")
	if err != nil {
		return nil, err
	}
	defer unlock()
	return &cri.ImageStatusResponse{Image: f.images[image.Image]}, nil
}

// ListImages lists each image once. Its tag is the name that it was pulled by.
func (f *fakeRuntime) ListImages(context.Context, *cri.ImageFilter) ([]cri.Image, error) {
	unlock, err := f.enter("ListImages")
	if err != nil {
		return nil, err
	}
	defer unlock()
	var out []cri.Image
	for name, img := range f.images {
		if name != img.ID {
			c := *img
			c.RepoTags = []string{name}
			out = append(out, c)
		}
	}
	return out, nil
}

func (f *fakeRuntime) RemoveImage(ctx context.Context, image *cri.ImageSpec) (err error) {
	unlock, err := f.enter("RemoveImage")
	if err != nil {
		return err
	}
	defer func() {
		unlock()
		if err == nil {
			err = f.linger(ctx, "RemoveImage")
		}
	}()
	maps.DeleteFunc(f.images, func(_ string, img *cri.Image) bool { return img.ID == image.Image })
	return nil
}

func (f *fakeRuntime) ImageFsInfo(context.Context) (*cri.ImageFsInfoResponse, error) {
	unlock, err := f.enter("ImageFsInfo")
	if err != nil {
		return nil, err
	}
	defer unlock()
	return &cri.ImageFsInfoResponse{ImageFilesystems: []cri.FilesystemUsage{{FsID: &cri.FilesystemIdentifier{Mountpoint: "/images"}}}}, nil
}
