"""The smallest whole lab, to be copied: see CONTRIBUTING.md."""
