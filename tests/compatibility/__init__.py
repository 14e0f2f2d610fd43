"""What detachd has been run with: records of test runs, and the page that is made from them."""
