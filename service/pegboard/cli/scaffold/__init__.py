"""The folders of new plugins, with everything that is needed to develop and publish them."""
