// faces_cpp MODEL PICTURE.png: as faces.c, through awsnet.hpp.
#include "awsnet.hpp"

#include <cstdio>
#include <exception>
#include <vector>

#include "picture.h"

namespace {

/// The pixels of a file, freed at the end.
struct Photo : picture {
    explicit Photo(const char *path) : picture{} {
        if (const char *fault = picture_read(path, this)) throw std::runtime_error(std::string(path) + ": " + fault);
    }
    ~Photo() { picture_free(this); }
    Photo(const Photo &) = delete;
    Photo &operator=(const Photo &) = delete;
};

int faces(const char *model, const char *path) {
    awsnet::DetectorOptions search;
    search.min_face = 24; // pixels
    awsnet::Detector detector(search);
    const Photo photo(path);
    awsnet_frame frame = AWSNET_FRAME_INIT;
    frame.format = AWSNET_FRAME_RGB;
    frame.width = static_cast<std::uint32_t>(photo.width);
    frame.height = static_cast<std::uint32_t>(photo.height);
    frame.planes[0] = photo.pixels;
    frame.sizes[0] = 3 * photo.width * photo.height;

    // As many as there are; an engine for as many at once.
    const std::vector<awsnet_face> faces = detector.detect(frame);
    if (faces.empty()) return 0;
    awsnet::EngineOptions options;
    options.batch = static_cast<std::uint32_t>(faces.size());
    const awsnet::Engine engine(awsnet::Model(model), options);
    awsnet::Session session = engine.session();
    std::vector<float> images;
    for (const awsnet_face &face : faces) engine.cut(frame, face, images);
    const awsnet::Predictions &predictions = session.run(images.data(), images.size());

    for (std::size_t i = 0; i < faces.size(); i++) {
        const awsnet_face &face = faces[i];
        // Nine digits tell every float from its neighbours.
        std::printf("face\t%.9g\t%.9g\t%.9g\t%.9g\t%.9g\n", double{face.x}, double{face.y}, double{face.width},
                    double{face.height}, double{face.score});
        for (std::size_t number = 0; number < engine.heads().size(); number++) {
            const awsnet::Head &head = engine.heads()[number];
            for (std::size_t j = 0; j < head.count; j++)
                std::printf("%s\t%s\t%.9g\n", head.name.c_str(), head.labels.empty() ? "" : head.labels[j].c_str(),
                            double{predictions.probabilities(number, i)[j]});
        }
    }
    return 0;
}

} // namespace

int main(int argc, char **argv) try {
    if (argc != 3) {
        std::fprintf(stderr, "usage: %s MODEL PICTURE.png\n", argv[0]);
        return 2;
    }
    return faces(argv[1], argv[2]);
} catch (const std::exception &error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
