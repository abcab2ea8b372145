"""From an archive to labelled images and decoded pixels.

Takes: the config's `datasets`; downloads into resources/{dataset}/.
Leaves: results/datasets/{dataset}/images/ with manifest.csv and dataset.json beside it, and pixels/{recipe}.npy.
"""

MADE = [name for name, entry in CONFIG.datasets.items() if entry.archive is None]
# Data sets whose path names a folder of images: there is nothing to extract.
FOLDERS = [name for name, entry in CONFIG.datasets.items() if entry.is_folder]
RECIPES = {
    model.preprocessing.recipe(DECODER): model.preprocessing
    for model in CONFIG.models.values()
}


rule make_sample:
    output:
        archive="resources/{dataset}/archive.tar",
        record="resources/{dataset}/archive.json",
    log:
        "logs/make_sample/{dataset}.log",
    wildcard_constraints:
        dataset=any_of(MADE),
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
        disk_mb=growing_by_image(200, 0.2),
    params:
        images=lambda wildcards: dataset_entry(wildcards).images,
        code=code_of("make_sample.py"),
        format=FORMAT,
    message:
        "Make the archive of the data set {wildcards.dataset} from photographs"
    script:
        "../scripts/make_sample.py"


rule download_archive:
    output:
        archive="resources/{dataset}/archive.tar",
        record="resources/{dataset}/archive.json",
    log:
        "logs/download_archive/{dataset}.log",
    wildcard_constraints:
        dataset=any_of(set(CONFIG.datasets) - set(MADE) - set(FOLDERS)),
    resources:
        mem_mb=growing(1000),
        runtime=growing(240),
        disk_mb=growing_by_image(200, 0.2),
    params:
        url=lambda wildcards: dataset_entry(wildcards).archive.url,
        path=lambda wildcards: dataset_entry(wildcards).archive.path,
        md5=lambda wildcards: dataset_entry(wildcards).archive.md5,
        code=code_of("download_archive.py"),
        format=FORMAT,
    message:
        "Fetch the archive of the data set {wildcards.dataset} and check its MD5"
    script:
        "../scripts/download_archive.py"


rule extract_dataset:
    input:
        # Only its record decides whether the archive is another one: gigabytes are not hashed to plan a run.
        archive=ancient("resources/{dataset}/archive.tar"),
        archive_record="resources/{dataset}/archive.json",
    output:
        images=directory("results/datasets/{dataset}/images"),
        manifest="results/datasets/{dataset}/manifest.csv",
        record="results/datasets/{dataset}/dataset.json",
    log:
        "logs/extract_dataset/{dataset}.log",
    wildcard_constraints:
        dataset=any_of(set(CONFIG.datasets) - set(FOLDERS)),
    threads: 8
    resources:
        mem_mb=growing(1000),
        runtime=growing_by_image(10, 0.0005),
        disk_mb=growing_by_image(200, 0.2),
    params:
        labels=lambda wildcards: dataset_entry(wildcards).label_kind,
        expected=lambda wildcards: dataset_entry(wildcards).images,
        devkit=lambda wildcards: dataset_entry(wildcards).devkit,
        code=code_of("extract_dataset.py"),
        format=FORMAT,
    message:
        "Extract the images of the data set {wildcards.dataset} into class folders and count them"
    script:
        "../scripts/extract_dataset.py"


rule link_dataset:
    output:
        images=directory("results/datasets/{dataset}/images"),
        manifest="results/datasets/{dataset}/manifest.csv",
        record="results/datasets/{dataset}/dataset.json",
    log:
        "logs/link_dataset/{dataset}.log",
    wildcard_constraints:
        dataset=any_of(FOLDERS),
    resources:
        mem_mb=growing(1000),
        runtime=growing_by_image(10, 0.0005),
        disk_mb=growing(200),
    params:
        folder=lambda wildcards: dataset_entry(wildcards).archive.path,
        labels=lambda wildcards: dataset_entry(wildcards).label_kind,
        expected=lambda wildcards: dataset_entry(wildcards).images,
        devkit=lambda wildcards: dataset_entry(wildcards).devkit,
        code=code_of("link_dataset.py"),
        format=FORMAT,
    message:
        "Link the images of the data set {wildcards.dataset} into class folders and count them"
    script:
        "../scripts/link_dataset.py"


rule decode_pixels:
    input:
        manifest="results/datasets/{dataset}/manifest.csv",
        dataset_record="results/datasets/{dataset}/dataset.json",
        images=images_shipped,
    output:
        pixels="results/datasets/{dataset}/pixels/{recipe}.npy",
        record="results/datasets/{dataset}/pixels/{recipe}.json",
    log:
        "logs/decode_pixels/{dataset}/{recipe}.log",
    wildcard_constraints:
        recipe=any_of(RECIPES),
    threads: 8
    resources:
        mem_mb=growing(1000),
        runtime=growing_by_image(10, 0.0005),
        disk_mb=growing_by_image(200, 0.2),
    params:
        preprocessing=lambda wildcards: RECIPES[wildcards.recipe].model_dump(
            mode="json"
        ),
        subset=subset_of,
        code=code_of("decode_pixels.py"),
        format=FORMAT,
    message:
        "Decode the images of the data set {wildcards.dataset} once, into one file of pixels"
    script:
        "../scripts/decode_pixels.py"
