-- Several workers share a large batch: which job (the batch itself, or one that helps it) works on an image, and in which
-- attempt. Once that attempt is over the image is free again.
ALTER TABLE job_images
    ADD COLUMN taken_by uuid,
    ADD COLUMN taken_attempt integer;
