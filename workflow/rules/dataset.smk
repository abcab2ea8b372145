"""From an archive to labelled images and decoded images.

Takes: the config's `datasets`; downloads into <resources>/{dataset}/.
Leaves: <datasets>/{dataset}/images/ with manifest.csv and dataset.json, and pixels/{recipe}.npy.
"""

MADE = [name for name, entry in CONFIG.datasets.items() if entry.archive is None]
# Data sets whose path names a folder of images: there is nothing to extract.
FOLDERS = [name for name, entry in CONFIG.datasets.items() if entry.is_folder]
# Data sets whose own archive was deleted after extraction: what was made of it stays, and no rule makes it anew.
KEPT = [name for name in CONFIG.datasets if is_kept(name)]
RECIPES = {
    model.preprocessing.recipe(DECODER): model.preprocessing
    for model in CONFIG.models.values()
}


rule make_sample:
    output:
        archive="<resources>/{dataset}/archive.tar",
        record="<resources>/{dataset}/archive.json",
    log:
        "<logs>/make_sample/{dataset}.log",
    wildcard_constraints:
        dataset=any_of(MADE),
    resources:
        machine=1,
        mem_mb=growing(1000),
        runtime=growing(10),
        disk_mb=growing_by_image(200, 0.2),
    params:
        settings=given(sample_settings),
        compared=compared(sample_settings),
        code=code_of("make_sample.py"),
        format=format_of("archive"),
    message:
        "Make the archive of the data set {wildcards.dataset} from photographs"
    script:
        "../scripts/make_sample.py"


rule download_archive:
    output:
        archive="<resources>/{dataset}/archive.tar",
        record="<resources>/{dataset}/archive.json",
    log:
        "<logs>/download_archive/{dataset}.log",
    wildcard_constraints:
        dataset=any_of(set(CONFIG.datasets) - {*MADE, *FOLDERS, *KEPT}),
    resources:
        machine=1,
        mem_mb=growing(1000),
        runtime=growing(240),
        disk_mb=growing_by_image(200, 0.2),
    params:
        settings=given(archive_settings),
        compared=compared(archive_settings),
        files=owned(archive_file),
        code=code_of("download_archive.py"),
        format=format_of("archive"),
    message:
        "Fetch the archive of the data set {wildcards.dataset} and check its MD5"
    script:
        "../scripts/download_archive.py"


rule extract_dataset:
    input:
        # Depend on the record, so that planning never hashes gigabytes.
        archive=ancient("<resources>/{dataset}/archive.tar"),
        archive_record="<resources>/{dataset}/archive.json",
    output:
        images=directory("<datasets>/{dataset}/images"),
        manifest="<datasets>/{dataset}/manifest.csv",
        record="<datasets>/{dataset}/dataset.json",
    log:
        "<logs>/extract_dataset/{dataset}.log",
    wildcard_constraints:
        dataset=any_of(set(CONFIG.datasets) - {*FOLDERS, *KEPT}),
    threads: 8
    resources:
        machine=1,
        mem_mb=growing(1000),
        runtime=growing_by_image(10, 0.0005),
        disk_mb=growing_by_image(200, 0.2),
    params:
        settings=given(label_settings),
        compared=compared(label_settings),
        files=owned(label_file),
        code=code_of("extract_dataset.py"),
        format=format_of("dataset"),
    message:
        "Extract the images of the data set {wildcards.dataset} into class folders and count them"
    script:
        "../scripts/extract_dataset.py"


# A checkpoint, so that nothing that follows runs if the manifest is the same: an image was only touched.
checkpoint link_dataset:
    output:
        images=directory("<datasets>/{dataset}/images"),
        manifest="<datasets>/{dataset}/manifest.csv",
        record="<datasets>/{dataset}/dataset.json",
    log:
        "<logs>/link_dataset/{dataset}.log",
    wildcard_constraints:
        dataset=any_of(FOLDERS),
    resources:
        machine=1,
        mem_mb=growing(1000),
        runtime=growing_by_image(10, 0.0005),
        disk_mb=growing(200),
    params:
        settings=given(folder_settings),
        compared=compared(folder_settings),
        files=owned(folder_files),
        code=code_of("link_dataset.py"),
        format=format_of("dataset"),
    message:
        "Link the images of the data set {wildcards.dataset} into class folders and count them"
    script:
        "../scripts/link_dataset.py"


rule decode_pixels:
    input:
        manifest="<datasets>/{dataset}/manifest.csv",
        dataset_record=ancient("<datasets>/{dataset}/dataset.json"),
        images=images_shipped,
    output:
        pixels="<datasets>/{dataset}/pixels/{recipe}.npy",
        record="<datasets>/{dataset}/pixels/{recipe}.json",
    log:
        "<logs>/decode_pixels/{dataset}/{recipe}.log",
    wildcard_constraints:
        recipe=any_of(RECIPES),
    threads: 8
    resources:
        machine=1,
        mem_mb=growing(1000),
        runtime=growing_by_image(10, 0.0005),
        disk_mb=growing_by_image(200, 0.2),
    params:
        settings=given(decoding_settings),
        compared=compared(decoding_settings),
        code=code_of("decode_pixels.py"),
        format=format_of("pixels"),
    message:
        "Decode the images of the data set {wildcards.dataset} once, into one file"
    script:
        "../scripts/decode_pixels.py"
