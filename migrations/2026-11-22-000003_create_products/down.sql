DROP TABLE object_deletions, analysis_defects, analysis_attributes, analyses, job_images, product_images, products;
